"""Rows that learnt nothing are named: one label for everything, or no more than the majority class has."""

from pathlib import Path

from support.records import write_run

from adapter_stilts.analysis.compare import compare_runs
from adapter_stilts.analysis.render import markdown
from adapter_stilts.evaluation.predictions import Predictions, write_predictions
from adapter_stilts.runs.store import EVALUATIONS, Run, RunStore

# The majority class A has 60 of a hundred words of each language right.
GOLD = [["A", "A", "A", "B", "C"]] * 20


def predict(run: Run, **labels: list[str]) -> Run:
    predictions = [Predictions(code, range(20), [one] * 20, GOLD) for code, one in labels.items()]
    write_predictions(run.folder / EVALUATIONS / "test", predictions, "tagging")
    return run


def unlearnt(store: Path) -> tuple[str, ...]:
    (table,) = compare_runs(RunStore(store)).tables_
    assert table.majority == {"en": 60.0, "de": 60.0, "nl": 60.0, "zh": 60.0}
    return table.unlearnt


SOME = {code: ["A", "A", "A", "B", "B"] for code in ("en", "de", "nl", "zh")}


def test_one_label_for_everything_is_named(tmp_path: Path) -> None:
    predict(write_run(tmp_path, "lora", "none", 60), **{code: ["A"] * 5 for code in SOME})
    assert unlearnt(tmp_path) == (
        "lora none learnt nothing: every prediction is A",
        "lora none is not above the majority class: 60.0 without en, the majority class has 60.0",
    )
    (table,) = compare_runs(RunStore(tmp_path)).tables_
    assert "- lora none learnt nothing: every prediction is A.\n" in markdown(table)


def test_a_seed_that_fell_is_not_hidden_by_the_mean(tmp_path: Path) -> None:
    for seed, right in enumerate((90, 95, 20)):
        predict(write_run(tmp_path, "lora", "none", right, seed=seed), **SOME)
    assert unlearnt(tmp_path) == (
        "lora none is not above the majority class under seed 2: 20.0 without en, the majority class has 60.0",
    )


def test_languages_at_or_under_the_floor_are_named(tmp_path: Path) -> None:
    predict(write_run(tmp_path, "lora", "none", {"de": 90, "nl": 60, "zh": 58}), **SOME)
    assert unlearnt(tmp_path) == (
        "lora none is not above the majority class in nl (60.0, it has 60.0), zh (58.0, it has 60.0)",
    )


def test_a_row_that_learnt_is_not_named(tmp_path: Path) -> None:
    predict(write_run(tmp_path, "lora", "none", 61), **SOME)
    assert unlearnt(tmp_path) == ()
