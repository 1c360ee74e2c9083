"""Equals alone stand in one table: what sets runs apart, what is said of it, and which evaluation of a run counts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.records import under, write_run

from adapter_stilts.analysis.compare import compare_runs
from adapter_stilts.analysis.render import markdown
from adapter_stilts.analysis.table import Table
from adapter_stilts.evaluation.predictions import Predictions, read_predictions, write_predictions
from adapter_stilts.evaluation.zero_shot import SCORES, read_scores
from adapter_stilts.runs.store import EVALUATIONS, Run, RunStore

DATA = {"en": "e1", "de": "d1", "nl": "n1", "zh": "z1"}


def evaluation(run: Run, name: str = "test", written: float | None = None, **changes: Any) -> Path:
    """Change a run's evaluation, or write another one like it; `written` is its time."""
    first, folder = run.folder / EVALUATIONS / "test", run.folder / EVALUATIONS / name
    folder.mkdir(exist_ok=True)
    (folder / SCORES).write_text(read_scores(first, run).model_copy(update=changes).model_dump_json())
    if folder != first:
        (folder / "predictions.parquet").write_bytes((first / "predictions.parquet").read_bytes())
    if written is not None:
        os.utime(folder / SCORES, (written, written))
    return folder


def task_identity(train: str, development: str = "same", language: str = "en", name: str = "tags") -> dict[str, Any]:
    reading = {"data": {"columns": {"tokens": "form", "labels": "upos"}}, "language": {}}
    rows = {
        "train": {language: {"data": train, "reading": reading}},
        "development": {"en": {"data": development, "reading": reading}},
    }
    return {"tasks": [{"name": name, "version": 1, **rows}]}


def tables(store: Path, **options: Any) -> list[Table]:
    return list(compare_runs(RunStore(store), **options).tables_)


def labels(table: Table) -> list[tuple[str, tuple[int, ...]]]:
    return [(row.label, row.seeds) for row in table.rows]


def test_other_test_data_are_another_table_and_no_delta(tmp_path: Path) -> None:
    none, stack = write_run(tmp_path, "lora", "none", 50), write_run(tmp_path, "lora", "stack", 60, over=[under("a")])
    evaluation(none, test_data=DATA)
    evaluation(stack, test_data=DATA)
    (table,) = tables(tmp_path)
    assert table.rows[1].delta_none is not None
    assert table.rows[1].delta_none.interval.value == pytest.approx(10)
    assert table.notes == ()
    evaluation(stack, test_data={**DATA, "de": "d2", "zh": "z2"})
    all_tables = tables(tmp_path)
    assert sorted(labels(table) for table in all_tables) == [[("lora none", (0,))], [("lora stack over a", (0,))]]
    assert [row.delta_none for table in all_tables for row in table.rows] == [None, None]
    notes = {table.rows[0].label: table.notes for table in all_tables}
    assert notes["lora none"] == (f"not in this table: {stack.name} (other test data in de, zh)",)
    assert notes["lora stack over a"] == (f"not in this table: {none.name} (other test data in de, zh)",)
    assert f"- not in this table: {none.name} (other test data in de, zh)." in "".join(map(markdown, all_tables))


def other_gold(run: Run, sentences: int = 20) -> None:
    """German of this run alone has other gold, or fewer sentences."""
    predictions = [
        Predictions(code, range(count), [["B"] * 5] * count, [["A"] * 4 + [last]] * count)
        for code, last, count in (("en", "A", 20), ("de", "B", sentences), ("nl", "A", 20), ("zh", "A", 20))
    ]
    write_predictions(run.folder / EVALUATIONS / "test", predictions, "tagging")
    languages = read_scores(run.folder / EVALUATIONS / "test", run).languages
    evaluation(run, languages={**languages, "de": {**languages["de"], "n": float(sentences)}})


@pytest.mark.parametrize("sentences", [20, 7])
def test_older_files_are_held_against_each_other_by_their_gold(tmp_path: Path, sentences: int) -> None:
    """Of other sizes, too: three seeds would draw the sentences of both."""
    for seed in (0, 1, 2):
        write_run(tmp_path, "lora", "none", 50, seed=seed)
        stack = write_run(tmp_path, "lora", "stack", 60, over=[under("a")], seed=seed)
    assert len(tables(tmp_path)) == 1
    other_gold(stack, sentences)
    all_tables = tables(tmp_path)
    assert [labels(table) for table in all_tables] == [
        [("lora none", (0, 1, 2)), ("lora stack over a", (0, 1))],
        [("lora stack over a", (2,))],
    ]
    assert all_tables[0].notes == (f"not in this table: {stack.name} (other test data in de)",)


def test_an_older_file_joins_those_with_its_gold(tmp_path: Path) -> None:
    evaluation(write_run(tmp_path, "lora", "none", 50), test_data=DATA)
    old = write_run(tmp_path, "lora", "stack", 60, over=[under("a")])
    (table,) = tables(tmp_path)
    assert table.rows[1].delta_none is not None
    other_gold(old)
    assert [table.notes for table in tables(tmp_path) if table.rows[0].label == "lora none"] == [
        (f"not in this table: {old.name} (other test data in de)",)
    ]


@pytest.mark.parametrize(
    ("identity", "said"),
    [(task_identity("t2"), "other training data in en"), (task_identity("t1", "d2"), "other development data in en")],
)
def test_seeds_of_other_data_are_never_one_row(tmp_path: Path, identity: dict[str, Any], said: str) -> None:
    for seed in (0, 1):
        write_run(tmp_path, "lora", "none", 50, seed=seed, identity=task_identity("t1"))
    odd = write_run(tmp_path, "lora", "none", 90, seed=2, identity=identity)
    all_tables = tables(tmp_path)
    assert [labels(table) for table in all_tables] == [[("lora none", (0, 1))], [("lora none", (2,))]]
    assert all_tables[0].rows[0].mean_zero_shot == 50
    assert all_tables[0].notes == (f"not in this table: {odd.name} ({said})",)


def test_what_lies_underneath_decides_nothing_of_the_runs_own_data(tmp_path: Path) -> None:
    write_run(tmp_path, "lora", "none", 50, identity={**task_identity("t1"), "over": []})
    write_run(tmp_path, "lora", "stack", 55, over=[under("a")], identity={**task_identity("t1"), "over": ["x"]})
    write_run(tmp_path, "full", "none", 55, identity={**task_identity("t1"), "masked_lm": {"text": "y"}})
    assert len(tables(tmp_path)) == 1


def test_zero_shot_is_what_was_not_trained_on(tmp_path: Path) -> None:
    german = {"en": 30, "de": 90, "nl": 60, "zh": 60}
    identity = task_identity("t1", language="de")
    write_run(tmp_path, "lora", "none", german, languages=("de",), identity=identity)
    better = {"en": 36, "de": 10, "nl": 60, "zh": 63}
    write_run(tmp_path, "lora", "stack", better, over=[under("a")], languages=("de",), identity=identity)
    (table,) = tables(tmp_path)
    alone, stack = table.rows
    assert (table.trained_languages, table.zero_shot) == (("de",), ("en", "nl", "zh"))
    assert (alone.mean_zero_shot, stack.mean_zero_shot) == (50, 53)
    assert alone.families == {"IE: Germanic": 45, "Sino-Tibetan": 60}
    assert stack.delta_none is not None
    assert stack.delta_none.interval.value == pytest.approx((6 + 0 + 3) / 3)
    text = markdown(table)
    assert "| without de |" in text
    assert "1,000 training examples in German" in text
    assert "points of the mean without de" in text
    assert "without en" not in text


def test_runs_trained_on_other_languages_are_apart(tmp_path: Path) -> None:
    write_run(tmp_path, "lora", "none", 50, identity=task_identity("t1"))
    both = write_run(
        tmp_path, "lora", "none", 50, variant="in de+en", languages=("de", "en"), identity=task_identity("t1")
    )
    notes = {table.rows[0].label: table.notes for table in tables(tmp_path)}
    assert notes["lora none"] == (f"not in this table: {both.name} (trained on de and en, here en)",)


def test_all_that_was_scored_was_trained_on(tmp_path: Path) -> None:
    write_run(tmp_path, "lora", "none", 50, languages=("en", "de", "nl", "zh"))
    (table,) = tables(tmp_path)
    assert table.rows[0].mean_zero_shot == 60
    assert table.without == "trained on en and de and nl and zh"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric_versions": {"accuracy": "2"}}, "other metric version in accuracy"),
        (
            {
                "languages": {code: {"accuracy": 60.0, "n": 20.0} for code in ("en", "de")},
                "mean_zero_shot": {"accuracy": 60.0},
            },
            "scored in de, en, here de, en, nl, zh",
        ),
    ],
)
def test_other_scoring_is_another_table(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write_run(tmp_path, "lora", "none", 50)
    other = write_run(tmp_path, "lora", "none", 50, seed=1)
    before = read_scores(other.folder / EVALUATIONS / "test", other)
    folder = evaluation(other, **changes)
    predictions = read_predictions(other.folder / EVALUATIONS / "test", before, "tagging")
    write_predictions(folder, [predictions[code] for code in changes.get("languages", predictions)], "tagging")
    notes = {table.seeds: table.notes for table in tables(tmp_path)}
    assert notes[(0,)] == (f"not in this table: {other.name} ({said})",)


def test_intermediates_of_other_data_are_never_one_row(tmp_path: Path) -> None:
    """The runs themselves are alike; what lies under seed 2 learnt from another file, and under seed 3 from fewer."""

    def intermediate(seed: int, train: str, limit: int | None = None) -> str:
        identity = task_identity(train, name="a")
        run = write_run(tmp_path, "lora", "none", 50, seed=10 + seed, identity=identity, limit=limit)
        for path in (run.folder / EVALUATIONS).rglob("*.*"):
            path.unlink()
        (run.folder / EVALUATIONS / "test").rmdir()
        return run.name

    write_run(tmp_path, "lora", "none", 50)
    below = [intermediate(0, "a1"), intermediate(1, "a1"), intermediate(2, "a2"), intermediate(3, "a1", 100)]
    stacks = [
        write_run(tmp_path, "lora", "stack", 60 + seed, over=[under("a", run=name)], seed=seed)
        for seed, name in enumerate(below)
    ]
    all_tables = tables(tmp_path)
    assert labels(all_tables[0]) == [("lora none", (0,)), ("lora stack over a", (0, 1))]
    assert sorted(note for note in all_tables[0].notes) == [
        f"not in this table: {stacks[2].name} (other training data of tags in en)",
        f"not in this table: {stacks[3].name} (other number of examples of tags)",
    ]
    assert sorted(table.seeds for table in all_tables[1:]) == [(2,), (3,)]


def test_the_evaluation_counts_that_most_runs_have(tmp_path: Path) -> None:
    """The first run was scored on the old German data and on the new ones, the second on the new ones alone."""
    old, new = {**DATA}, {**DATA, "de": "d2"}
    first, second = write_run(tmp_path, "lora", "none", 50), write_run(tmp_path, "lora", "none", 52, seed=1)
    evaluation(first, test_data=old, written=200.0)
    evaluation(first, "again", written=100.0, test_data=new)
    evaluation(second, test_data=new, written=150.0)
    (table,) = tables(tmp_path)
    assert labels(table) == [("lora none", (0, 1))]
    assert table.notes == ("other evaluations of these runs are left out: other test data in de (of 1 run)",)


def test_of_two_sets_the_one_on_the_newest_data_counts_then_the_larger(tmp_path: Path) -> None:
    def with_two(first: dict[str, Any], second: dict[str, Any]) -> Table:
        for seed in (0, 1):
            run = write_run(tmp_path, "lora", "none", 50, seed=seed)
            evaluation(run, written=100.0, **first)
            evaluation(run, "again", written=200.0, **second)
        (table,) = tables(tmp_path)
        return table

    table = with_two({"test_data": DATA}, {"test_data": {**DATA, "de": "d2"}, "limit": 50})
    assert table.test_examples == 50
    assert table.notes == ("other evaluations of these runs are left out: on all sentences (of 2 runs)",)
    (whole,) = tables(tmp_path, limit=50)
    assert (whole.test_examples, whole.notes) == (50, ())


def test_all_sentences_come_before_a_part_of_the_same_data(tmp_path: Path) -> None:
    run = write_run(tmp_path, "lora", "none", 50)
    evaluation(run, written=100.0, test_data=DATA)
    evaluation(run, "again", written=200.0, test_data=DATA, limit=7)
    (table,) = tables(tmp_path)
    assert table.test_examples is None
    assert table.notes == (
        "other evaluations of these runs are left out: on at most 7 sentences a language (of 1 run)",
    )


def test_seeds_that_were_trained_in_different_ways_are_told(tmp_path: Path) -> None:
    write_run(tmp_path, "lora", "none", 50, recipe={"epochs": 2})
    write_run(tmp_path, "lora", "none", 60, recipe={"epochs": 3}, seed=1)
    write_run(tmp_path, "full", "none", 60, precision="bf16", identity={"training": 1})
    write_run(tmp_path, "full", "none", 60, precision="bf16", identity={"training": 2}, seed=4)
    (table,) = tables(tmp_path)
    assert table.notes == (
        "lora none: its seeds were trained in different ways (epochs: 2 and 3 under seeds 0 and 1)",
        "full none: its seeds were trained in different ways (version of training: 1 and 2 under seeds 0 and 4)",
    )


def test_gold_labels_that_training_never_showed_are_told(tmp_path: Path) -> None:
    run = write_run(tmp_path, "lora", "none", 50)
    languages = read_scores(run.folder / EVALUATIONS / "test", run).languages
    evaluation(run, languages={**languages, "de": {**languages["de"], "unseen_gold": 12}})
    (table,) = tables(tmp_path)
    assert table.notes == ("gold labels that training never showed count as wrong in de (12)",)
