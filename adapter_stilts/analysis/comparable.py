"""Which evaluations may stand in one table, and in what those that may not differ.

A table compares equals: one target, backbone, labelling and number of training examples, scored on one part of the
test data, and all of it by content: the training and development data of the run itself (whatever lies underneath or is
mixed in), the languages trained on, the test data of every language, and the version of the metric. What lies
underneath must agree wherever two runs stand on the same task.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_stilts.analysis.rows import row_key
from adapter_stilts.analysis.scored import Scored
from adapter_stilts.errors import StiltsError
from adapter_stilts.runs.record import RECORD, Record, read_record
from adapter_stilts.runs.store import content_hash

# What is compared by content, by its name in words and what it is of: a language, a metric, or nothing.
Facts = Mapping[tuple[str, str], str]
NAMED = 4


@dataclass(frozen=True)
class Group:
    """The evaluations of one table, and a line for every other table that would be this one but for its data."""

    runs: tuple[Scored, ...]
    notes: tuple[str, ...]


def comparable_groups(scored: Iterable[Scored]) -> list[Group]:
    """The evaluations of each table: by task and setting, and within one the table of most runs first, then the
    newest. Every evaluation is in exactly one."""
    settings: dict[tuple, list[Scored]] = defaultdict(list)
    for evaluation in scored:
        settings[_setting(evaluation)].append(evaluation)
    underneath = _Underneath()
    groups = []
    for key in sorted(settings, key=_setting_order):
        parts = [part for same_data in _by_data(settings[key]) for part in _by_underneath(same_data, underneath)]
        parts.sort(key=lambda part: (-len(part), -max(evaluation.evaluated for evaluation in part)))
        by_gold = not all(evaluation.scores.test_data for part in parts for evaluation in part) and len(parts) > 1
        described = [_described(part, underneath, by_gold) for part in parts]
        for index, part in enumerate(parts):
            notes = [
                _note(parts[other], described[index], described[other]) for other in range(len(parts)) if other != index
            ]
            groups.append(Group(tuple(sorted(part, key=_in_table)), tuple(notes)))
    return groups


def choose_evaluations(candidates: Sequence[Sequence[Scored]]) -> tuple[list[Scored], dict[str, list[Scored]]]:
    """One evaluation of each run, and by the name of a run those that were left out.

    Chosen is the set of comparable evaluations that most runs have, then for the rest again. Of two sets that as many
    runs have: the one on the newest test data, in more languages, on more sentences, the newer one.
    """
    every = [evaluation for evaluations in candidates for evaluation in evaluations]
    keys = _keys(every)
    newest = _newest_data(every)
    open_runs = {evaluation.run.name: list(evaluations) for evaluations in candidates for evaluation in evaluations[:1]}
    chosen: list[Scored] = []
    left: dict[str, list[Scored]] = {}
    while open_runs:
        sets: dict[tuple, list[Scored]] = defaultdict(list)
        for evaluations in open_runs.values():
            for evaluation in evaluations:
                sets[keys[evaluation.folder]].append(evaluation)
        best = max(sets.values(), key=lambda evaluations: _rank(evaluations, newest))
        for name in dict.fromkeys(evaluation.run.name for evaluation in best):
            of_run = [evaluation for evaluation in best if evaluation.run.name == name]
            counted = max(of_run, key=lambda evaluation: evaluation.evaluated)
            chosen.append(counted)
            others = open_runs.pop(name)
            left[name] = [other for other in others if keys[other.folder] != keys[counted.folder]]
    order = {evaluations[0].run.name: index for index, evaluations in enumerate(candidates) if evaluations}
    chosen.sort(key=lambda evaluation: order[evaluation.run.name])
    return chosen, {name: others for name, others in left.items() if others}


def left_out_note(group: Group, left: Mapping[str, Sequence[Scored]]) -> str:
    """One line on the other evaluations of a table's runs; empty where there are none."""
    counts: Counter[str] = Counter()
    for evaluation in group.runs:
        counts.update({_evaluation_difference(evaluation, other) for other in left.get(evaluation.run.name, ())})
    if not counts:
        return ""
    named = "; ".join(f"{about} (of {runs} run{'s' if runs > 1 else ''})" for about, runs in counts.items())
    return f"other evaluations of these runs are left out: {named}"


def _evaluation_difference(one: Scored, other: Scored) -> str:
    if one.scores.limit != other.scores.limit:
        limit = other.scores.limit
        return "on all sentences" if limit is None else f"on at most {limit} sentences a language"
    by_gold = not (one.scores.test_data and other.scores.test_data)
    return _difference(_facts(one, by_gold), _facts(other, by_gold))


def _rank(evaluations: Sequence[Scored], newest: Mapping[tuple[str, str], str]) -> tuple:
    first = evaluations[0]
    data = first.scores.test_data
    on_newest = bool(data) and all(newest[first.run.record.task.name, code] == data[code] for code in data)
    limit = first.scores.limit
    return (
        len({evaluation.run.name for evaluation in evaluations}),
        on_newest,
        len(first.scores.languages),
        float("inf") if limit is None else limit,
        max(evaluation.evaluated for evaluation in evaluations),
    )


def _newest_data(scored: Iterable[Scored]) -> dict[tuple[str, str], str]:
    """By task and language the test data that were scored last."""
    ordered = sorted(scored, key=lambda evaluation: evaluation.evaluated)
    return {
        (evaluation.run.record.task.name, code): data
        for evaluation in ordered
        for code, data in evaluation.scores.test_data.items()
    }


# --- what must be equal -----------------------------------------------------------------------------------------------


def _setting(evaluation: Scored) -> tuple:
    """What sets tables apart and stands in each of them."""
    record, scores = evaluation.run.record, evaluation.scores
    return (
        record.task.name,
        record.backbone.sha256,
        record.word_piece,
        record.limit,
        record.match_tokens,
        scores.split,
        scores.limit,
    )


def _setting_order(key: tuple) -> tuple:
    task, backbone, word_piece, *amounts, split, limit = key
    numbers = [float("inf") if amount is None else amount for amount in (*amounts, limit)]
    return task, word_piece, split, *numbers, backbone


def _in_table(evaluation: Scored) -> tuple:
    return row_key(evaluation.run.record).sort_key, evaluation.run.record.seed, evaluation.run.record.created


def _by_data(scored: Sequence[Scored]) -> list[list[Scored]]:
    """Evaluations of one setting, apart where their own data differ."""
    keys = _keys(scored)
    classes: dict[tuple, list[Scored]] = defaultdict(list)
    for evaluation in scored:
        classes[keys[evaluation.folder]].append(evaluation)
    return list(classes.values())


def _keys(scored: Sequence[Scored]) -> dict[Path, tuple]:
    """By the folder of an evaluation, a key that comparable ones share (what lies underneath aside)."""
    alike: dict[tuple, list[Scored]] = defaultdict(list)
    for evaluation in scored:
        alike[_setting(evaluation), tuple(sorted(_identity_facts(evaluation).items()))].append(evaluation)
    return {
        folder: (*key, test) for key, evaluations in alike.items() for folder, test in _test_keys(evaluations).items()
    }


def _test_keys(scored: Sequence[Scored]) -> dict[Path, tuple]:
    """What was tested on, of evaluations that are otherwise alike: the hashes of the test data. A file from before they
    were written down is held against the others by its gold labels and example numbers."""
    hashed = [evaluation for evaluation in scored if evaluation.scores.test_data]
    known = {evaluation.folder: tuple(sorted(evaluation.scores.test_data.items())) for evaluation in hashed}
    older = [evaluation for evaluation in scored if not evaluation.scores.test_data]
    if not older or len(scored) == 1:
        return {evaluation.folder: known.get(evaluation.folder, ()) for evaluation in scored}
    gold: dict[tuple, tuple] = {}
    # Where the same gold stands in two versions of the data, the one that most runs have counts.
    often = Counter(known.values())
    for evaluation in sorted(hashed, key=lambda evaluation: often[known[evaluation.folder]]):
        gold[tuple(sorted(evaluation.gold.items()))] = known[evaluation.folder]
    for evaluation in older:
        gold_key = tuple(sorted(evaluation.gold.items()))
        known[evaluation.folder] = gold.get(gold_key, gold_key)
    return known


TRAINING, DEVELOPMENT, TEST = "training data", "development data", "test data"


def _identity_facts(evaluation: Scored) -> dict[tuple[str, str], str]:
    """What an evaluation must share with others of its setting, its test data aside."""
    record, scores = evaluation.run.record, evaluation.scores
    return {
        **_data_facts(record),
        ("trained on", ""): " and ".join(record.languages),
        ("scored in", ""): ", ".join(sorted(scores.languages)),
        ("metric version", evaluation.metric_name): scores.metric_versions.get(evaluation.metric_name, ""),
    }


def _facts(evaluation: Scored, by_gold: bool) -> dict[tuple[str, str], str]:
    """All that it must share; the test data by the hashes of its data, or by gold labels and example numbers."""
    test = evaluation.gold if by_gold else evaluation.scores.test_data
    return {**_identity_facts(evaluation), **{(TEST, code): data for code, data in test.items()}}


def _data_facts(record: Record) -> dict[tuple[str, str], str]:
    """The training and development data of a run's own tasks by language: by content, reading and version."""
    tasks: Sequence[Mapping[str, Any]] = record.identity.get("tasks", ())
    if not tasks:
        kinds = {"train": TRAINING, "validation": DEVELOPMENT}
        parts = [part for part in record.data if part.split in kinds and part.task in record.task.name.split("+")]
        return {(kinds[part.split], part.language): part.sha256 for part in parts}
    facts = {}
    for task in tasks:
        about = {name: value for name, value in task.items() if name not in ("train", "development")}
        for kind, part in ((TRAINING, "train"), (DEVELOPMENT, "development")):
            for code, data in task[part].items():
                facts[kind, code if len(tasks) == 1 else f"{task['name']}, {code}"] = content_hash(
                    {"task": about, "data": data}
                )
    return facts


# --- what lies underneath ---------------------------------------------------------------------------------------------


class _Underneath:
    """The data of all that lies under a run; every record is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[tuple[str, str], str]] = {}

    def facts(self, evaluation: Scored) -> dict[tuple[str, str], str]:
        """By intermediate task and language; without those whose record is gone."""
        return self._below(evaluation.run.record, evaluation.run.folder.parent)

    def _below(self, record: Record, store: Path) -> dict[tuple[str, str], str]:
        facts: dict[tuple[str, str], str] = {}
        for under in record.over:
            facts |= self._of(store / under.run)
        return facts

    def _of(self, folder: Path) -> dict[tuple[str, str], str]:
        if folder not in self._known:
            self._known[folder] = {}
            try:
                record = read_record(folder) if (folder / RECORD).is_file() else None
            except StiltsError:
                record = None
            if record is not None:
                name = record.task.name
                facts = {(f"{kind} of {name}", code): data for (kind, code), data in _data_facts(record).items()}
                limit = {(f"number of examples of {name}", ""): str(record.limit)}
                self._known[folder] = {**self._below(record, folder.parent), **facts, **limit}
        return self._known[folder]


def _by_underneath(scored: list[Scored], underneath: _Underneath) -> list[list[Scored]]:
    """Evaluations apart where what lies under them was trained on other data: first those that agree with most."""
    votes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    # The newest come first, and so win where there are as many of others.
    for evaluation in sorted(scored, key=lambda evaluation: evaluation.run.record.created, reverse=True):
        for about, data in underneath.facts(evaluation).items():
            votes[about][data] += 1
    usual = {about: counts.most_common(1)[0][0] for about, counts in votes.items()}
    fit = [
        evaluation
        for evaluation in scored
        if all(usual[about] == data for about, data in underneath.facts(evaluation).items())
    ]
    rest = [evaluation for evaluation in scored if evaluation not in fit]
    # Where every run is odd in something, the newest stands alone.
    if not fit:
        fit = [max(scored, key=lambda evaluation: evaluation.run.record.created)]
        rest = [evaluation for evaluation in scored if evaluation is not fit[0]]
    return [fit, *(_by_underneath(rest, underneath) if rest else [])]


# --- what is said of it -----------------------------------------------------------------------------------------------


def _described(part: Sequence[Scored], underneath: _Underneath, by_gold: bool) -> dict[tuple[str, str], str]:
    facts = _facts(part[0], by_gold)
    for evaluation in part:
        facts |= underneath.facts(evaluation)
    return facts


def _note(other: Sequence[Scored], facts: Facts, other_facts: Facts) -> str:
    names = [evaluation.run.name for evaluation in sorted(other, key=_in_table)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"not in this table: {', '.join(names[:NAMED])}{more} ({_difference(facts, other_facts)})"


def _difference(facts: Facts, other_facts: Facts) -> str:
    """In what two sets of facts differ: how the others are other than the table's."""
    parts = []
    for about in ("trained on", "scored in"):
        if facts[about, ""] != other_facts[about, ""]:
            parts.append(f"{about} {other_facts[about, '']}, here {facts[about, '']}")
    different: dict[str, list[str]] = {}
    for (about, of), data in other_facts.items():
        if (about, of) in facts and facts[about, of] != data and about not in ("trained on", "scored in"):
            different.setdefault(about, []).append(of)
    for about, names in different.items():
        where = f" in {', '.join(names[:NAMED])}" if any(names) else ""
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        parts.append(f"other {about}{where}{more}")
    return "; ".join(parts) or "other test data"
