"""The majority class beside the rows, counted by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_study import fake_runs, no_noise, study_of

from adapter_stilts.analysis.compare import compare_scored
from adapter_stilts.analysis.majority import above_majority, numbered_rows, scores_by_language
from adapter_stilts.analysis.scored import Scored
from adapter_stilts.analysis.study import scored_runs
from adapter_stilts.analysis.table import Table
from adapter_stilts.evaluation.predictions import Predictions, write_predictions

TEXT = """\
targets: [udpos]
intermediates: [ud_deprel, pmb_semtag]
compositions: [none, stack]
"""


@pytest.fixture
def scored(tmp_path: Path) -> list[Scored]:
    (tmp_path / "runs").mkdir()
    runs = fake_runs(tmp_path / "runs", study_of(tmp_path, TEXT), no_noise, languages=("de", "zh"))
    return list(scored_runs(runs).values())


@pytest.fixture
def table(scored: list[Scored]) -> Table:
    return compare_scored(scored).tables_[0]


def test_majority_is_the_most_frequent_gold_label_of_each_language(tmp_path: Path, scored: list[Scored]) -> None:
    """de: B stands 3 times of 4; zh: A 2 of 3. What was predicted is no matter."""
    predictions = [
        Predictions("de", [0, 1], [["A", "A"], ["A", "A"]], [["B", "A"], ["B", "B"]]),
        Predictions("zh", [0], [["C", "C", "C"]], [["A", "C", "A"]]),
    ]
    write_predictions(tmp_path, predictions, "tagging")
    scores = scored[0].scores
    languages = {code: {**scores.languages[code], "n": float(n)} for code, n in (("de", 2), ("zh", 1))}
    scores = scores.model_copy(update={"languages": languages})
    assert Scored(scored[0].run, scores, tmp_path).majority == pytest.approx({"de": 75.0, "zh": 200 / 3})


def test_rows_and_scores(table: Table) -> None:
    """Scores of `no_noise`: 60, 6 more in German here, where there are six languages in its list; 2 over syntax."""
    table = replace(table, majority={"en": 10.0, "de": 20.0, "zh": 30.5})
    rows = numbered_rows(table).rows
    assert [row[:3] for row in rows] == [
        ["1", "bottleneck none", "63.0"],
        ["2", "bottleneck stack over pmb_semtag", "63.0"],
        ["3", "bottleneck stack over ud_deprel", "65.0"],
        ["", "majority class", "25.2"],
    ]
    assert [row[3].partition(" ")[0] for row in rows] == ["-", "+0.0", "+2.0", "-"]
    cells = scores_by_language(table)
    assert cells.heads == ["", "language", "script", "majority class", "1", "2", "3"]
    assert [list(row) for row in cells.rows if row[0] != "en"] == [
        ["de", "German", "Latin", "20.0", "66.0", "66.0  +0.0", "68.0  +2.0"],
        ["zh", "Chinese", "Han", "30.5", "60.0", "60.0  +0.0", "62.0  +2.0"],
    ]


def test_the_lowest_margin_is_named_where_all_are_above(table: Table) -> None:
    least = "Every score is above the majority class, by 29.5 points or more (least: bottleneck none, zh)."
    known = replace(table, majority={"de": 20.0, "zh": 30.5, "en": 0.0}, unlearnt=())
    assert above_majority(known) == least
    assert above_majority(replace(known, unlearnt=("one",))) == ""
    assert above_majority(replace(known, majority={"de": 66.0, "zh": 0.0, "en": 0.0})) == ""
