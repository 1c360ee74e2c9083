"""What a label may be: the one place that decides it, for every format and split.

A task's YAML or a ClassLabel lists its labels (closed), or the train split shows them (`labels: open`). An open
inventory takes what can be a label alone: no marker of what has none, no quotes, nothing invisible, and no two
spellings of one label. Whoever means such a label lists it.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.metrics import is_span_tag, is_tag_without_prefix

# What files hold where there is no label: CoNLL-U's empty column, NaN of pandas, -1 of `datasets`, -100 of PyTorch.
UNLABELLED = {"", "_", "nan", "-1", "-1.0", "-100", "-100.0"}
# Characters of a label that a message shows.
_SHOWN = 60
_PREFIXES = frozenset("BIESLU")
_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]+)\.0+")


@dataclass(frozen=True)
class LabelRules:
    """`accepted`: the closed inventory, None where it is open; `until`: where labels are cut off; `metrics`: the
    task's, whose scheme of tags the labels must have."""

    accepted: tuple[str, ...] | None
    open: bool
    until: str | None = None
    metrics: tuple[str, ...] = ()


def is_tag(label: str) -> bool:
    """Whether this is a tag of any scheme of spans: those of `is_span_tag`, BILOU, or with the prefix at the end."""
    before, _, after = label.partition("-")
    _, _, last = label.rpartition("-")
    return label == "O" or (before in _PREFIXES and bool(before and after)) or (last in _PREFIXES and len(label) > 2)


def has_span_tags(labels: Collection[str]) -> bool:
    """Whether the labels are tags of spans: O, and B- or I- with a type."""
    return "O" in labels and any(label[:2] in ("B-", "I-") and len(label) > 2 for label in labels)


# Metric -> the test of its labels, and what it accepts in words.
SCHEMES: dict[str, tuple[Callable[[str], bool], str]] = {
    "span_f1": (is_span_tag, "O, and B-, I-, E- or S- with a type (IOB1, IOB2, BIOES: metric span_f1)"),
    "official_tag_f1": (is_tag_without_prefix, "tags without a hyphen (official_tag_f1)"),
}


def refused_by_metrics(label: str, metrics: Sequence[str]) -> str | None:
    """What is accepted instead, where a metric of the task does not know the label; None where all do."""
    for metric in metrics:
        fits, accepted = SCHEMES.get(metric, (None, ""))
        if fits is not None and not fits(label):
            return accepted + (_hint(label) if metric == "span_f1" else "")
    return None


def _hint(label: str) -> str:
    kind, _, type_ = label.partition("-")
    if kind in ("L", "U") and type_:
        return f"; BILOU: write {label} as {'I' if kind == 'L' else 'B'}-{type_}"
    type_, _, kind = label.rpartition("-")
    return f"; write {label} as {kind}-{type_}" if kind in ("B", "I", "E", "S") and type_ else ""


def meaning(label: str) -> str:
    """Equal for spellings of one label: `1` and `1.0`, `true` and `True`, `Pos` and `pos`."""
    number = _WHOLE_NUMBER.fullmatch(label)
    return number[1] if number else label.casefold()


def read_labels(values: list[Any], rules: LabelRules, location: Callable[[int, int | None], str]) -> list[Any]:
    """The labels of a split's rows (a string a row, or a list a row), without blanks around them and cut off as the
    rules say. Raises `DataError` at the first one that the rules do not accept."""
    listed = bool(values) and isinstance(values[0], list)
    names = {label: _clean(label, rules) for label in (set(chain.from_iterable(values)) if listed else set(values))}
    if any(label != name for label, name in names.items()):
        values = [[names[label] for label in row] if listed else names[row] for row in values]
    distinct = set(names.values())
    complaints = {label: what for label in distinct if (what := _complaint(label, rules, distinct)) is not None}
    if complaints:
        label, where = _first(values, complaints, location)
        raise DataError(f"{where}: found {complaints[label]}")
    if rules.open:
        _refuse_spellings(values, distinct, location)
    return values


def _clean(label: str, rules: LabelRules) -> str:
    def cut(text: str) -> str:
        return text if rules.until is None else text.split(rules.until, 1)[0]

    written = cut(label)
    return written if rules.accepted is not None and written in rules.accepted else cut(label.strip())


def _complaint(label: str, rules: LabelRules, distinct: set[str]) -> str | None:
    """What is wrong with a label, as 'found' and 'accepted'; None where nothing is."""
    shown = label if len(label) <= _SHOWN else f"{label[:_SHOWN]}..."
    if rules.accepted is not None and label not in rules.accepted:
        return f"the label '{shown}', accepted {', '.join(rules.accepted)}"
    if rules.open:
        if label.casefold() in UNLABELLED:
            hint = f" (where '{shown}' is one, list all under `labels`)" if label else ""
            return f"the label '{shown}', accepted a label{hint}"
        if _has_invisible(label):
            return f"the label {shown!r} with an invisible character, accepted a label without"
        if len(label) > 2 and label[0] == label[-1] and label[0] in "\"'" and label.strip(label[0]):
            return f"the label {shown} in quotes, accepted it without"
        if has_span_tags(distinct) and not is_tag(label):
            return f"the label '{shown}' among tags of spans, accepted O, and B- or I- with a type"
    accepted = refused_by_metrics(label, rules.metrics)
    return None if accepted is None else f"the tag '{shown}', accepted {accepted}"


def _has_invisible(label: str) -> bool:
    """Control characters, or a joiner or mark of direction at an end (within a word, some scripts need them)."""
    ends = {unicodedata.category(label[0]), unicodedata.category(label[-1])}
    return "Cf" in ends or any(unicodedata.category(character) == "Cc" for character in label)


def _refuse_spellings(values: list[Any], distinct: set[str], location: Callable[[int, int | None], str]) -> None:
    spellings: dict[str, set[str]] = {}
    for label in distinct:
        spellings.setdefault(meaning(label), set()).add(label)
    several = {label for spelt in spellings.values() if len(spelt) > 1 for label in spelt}
    if not several:
        return
    first, where = _first(values, several, location)
    other, other_where = _first(values, spellings[meaning(first)] - {first}, location)
    raise DataError(
        f"{other_where}: found the label '{other}', accepted '{first}' as at {where} (or list both under `labels`)"
    )


def _first(values: list[Any], wanted: Collection[str], location: Callable[[int, int | None], str]) -> tuple[str, str]:
    """The first label that is one of those wanted, and where it stands."""
    for row, value in enumerate(values):
        for token, label in enumerate(value if isinstance(value, list) else [value]):
            if label in wanted:
                return label, location(row, token if isinstance(value, list) else None)
    raise ValueError(f"accepted labels with one of {', '.join(wanted)}")


def first_location(values: list[Any], label: str, location: Callable[[int, int | None], str]) -> str:
    """Where the label stands first. Raises ValueError where it does not."""
    return _first(values, {label}, location)[1]
