"""What lies beside the page: every figure's numbers as CSV, tables as Markdown and LaTeX, and the study read back."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from adapter_stilts.analysis.compare import compare_scored
from adapter_stilts.analysis.frame import load_study, score_rows
from adapter_stilts.analysis.render import Cells, as_markdown
from adapter_stilts.report.content import Report
from adapter_stilts.report.figure_rows import cost_rows, csv_text, heatmap_rows, language_rows
from adapter_stilts.report.page import page
from adapter_stilts.report.tables import all_tables, as_html, as_latex, contrasts, heatmap_grid, references
from adapter_stilts.report.write import write_report

CELLS = Cells("A_b", "50% of it", ["", "x|y"], [["pmb_semtag", "−1.5 [-2, +1]"], ["<none>", "±2"]])


@pytest.fixture(scope="module")
def folder(whole: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    write_report(whole, out)
    return out


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_markdown() -> None:
    assert as_markdown(CELLS) == (
        "### A_b\n\n50% of it\n\n|  | x\\|y |\n| --- | ---: |\n| pmb_semtag | −1.5 [-2, +1] |\n| &lt;none> | ±2 |\n"
    )


def test_latex() -> None:
    assert as_latex(CELLS, "own").splitlines()[1:] == [
        r"\begin{table}",
        r"\caption{A\_b. 50\% of it.}",
        r"\label{tab:own}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" & x|y \\",
        r"\midrule",
        r"pmb\_semtag & $-$1.5 [-2, +1] \\",
        r"$<$none$>$ & $\pm$2 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_html_escapes() -> None:
    text = as_html(CELLS)
    assert '<th scope="row">&lt;none&gt;</th><td class="number">±2</td>' in text
    assert "<caption>A_b</caption>" in text


def test_csv_leaves_what_is_missing_empty() -> None:
    assert csv_text([{"a": None, "b": "x,y"}]) == 'a,b\n,"x,y"\n'


def test_the_data_of_every_figure_lie_beside_the_page(folder: Path, whole: Report) -> None:
    heat = {(row["method"], row["intermediate"], row["control"]): row for row in read(folder / "data/heatmap.csv")}
    assert len(heat) == len(heatmap_rows(whole)) == 8 + 2 + 8
    assert float(heat["full", "chunking", ""]["difference"]) == pytest.approx(2.0)
    assert heat["full", "chunking", ""]["seeds"] == "0 1 2"
    stacked = heat["bottleneck", "chunking", ""]
    against = ("difference", "difference_to_full", "difference_to_random")
    assert [float(stacked[key]) for key in against] == pytest.approx([2.0, -5.0, 3.0])
    assert heat["full", "chunking", ""]["difference_to_full"] == ""
    assert float(heat["bottleneck", "ud_deprel", "random"]["difference"]) == pytest.approx(-1.0)
    languages = [row for row in language_rows(whole) if row["method"] == "bottleneck" and row["language"] == "ru"]
    assert {(row["knowledge"], row["granularity"]): (row["delta"], row["runs"]) for row in languages} == {
        ("syntactic", "token"): (2.0, 6),
        ("syntactic", "sentence"): (2.0, 6),
        ("semantic", "token"): (0.0, 3),
        ("semantic", "sentence"): (-1.0, 9),
    }
    assert len(read(folder / "data/languages.csv")) == len(language_rows(whole)) == 2 * 3 * 4
    cost = {row["row"]: row for row in read(folder / "data/cost.csv")}
    assert len(cost) == len(cost_rows(whole)) == 1 + 8 + 1 + 8
    assert float(cost["full none"]["seconds"]) == pytest.approx(327.0)
    assert int(cost["bottleneck none"]["trainable_parameters"]) == 454_097


def test_contrasts_are_those_of_the_statistics(folder: Path, whole: Report) -> None:
    rows = read(folder / "data/contrasts.csv")
    assert whole.primary is not None
    assert whole.primary.effects is not None
    contrast = whole.primary.effects.contrast("knowledge")
    assert float(rows[0]["estimate"]) == pytest.approx(contrast.estimate)
    assert float(rows[0]["holm_p"]) == pytest.approx(contrast.holm_p)
    assert rows[0]["family"] == "3"
    assert [row["against"] for row in rows] == ["none"] * 6 + ["full"] * 3
    cells = contrasts(whole)
    assert "corrected over" in cells.heads
    assert cells.rows[0][8] == "3"
    assert "Holm's correction is over the contrasts of one method and composition" in cells.note


def test_left_out_runs_are_counted(folder: Path, whole: Report) -> None:
    rows = {(row["against"], row["reason"]): int(row["runs"]) for row in read(folder / "data/left_out.csv")}
    assert rows["none", "control (random)"] == 3
    for observed in whole.observed:
        assert observed.runs + sum(runs for (against, _), runs in rows.items() if against == observed.reference) == 60


def test_intermediates_have_their_own_score(folder: Path) -> None:
    rows = {(row["task"], row["method"], row["control"]): row for row in read(folder / "data/intermediates.csv")}
    assert float(rows["pmb_semtag", "bottleneck", "shuffled"]["development"]) == 12.0
    assert rows["rte", "full", ""]["runs"] == "3"


def test_every_table_is_markdown_and_latex(folder: Path, whole: Report) -> None:
    names = {path.stem for path in (folder / "tables").glob("*.md")}
    assert names == {path.stem for path in (folder / "tables").glob("*.tex")} == set(all_tables(whole))
    assert {"contrasts", "heatmap", "summary-udpos", "families-udpos", "languages-udpos", "stated"} <= names
    page = (folder / "index.html").read_text(encoding="utf-8")
    for path in (*folder.glob("data/*"), *folder.glob("tables/*")):
        assert f'href="{path.relative_to(folder)}"' in page


def test_the_whole_of_it_is_json_as_well(folder: Path, whole: Report) -> None:
    plain = json.loads((folder / "data/report.json").read_text(encoding="utf-8"))
    assert plain["answers"] == [str(answer) for answer in whole.answers]
    assert plain["fits"][0]["effects"]["contrasts"][0]["name"] == "knowledge"


def test_a_written_report_is_read_back_as_a_frame(folder: Path, whole: Report) -> None:
    frame, rows = load_study(folder), score_rows(whole.scored)
    assert len(frame) == len(rows) == 60 * 4
    stacked = frame[(frame.composition == "stack") & frame.zero_shot & frame.control.isna()]
    means = stacked.groupby("knowledge").delta_none.mean()
    assert means.to_dict() == pytest.approx({"semantic": -0.75, "syntactic": 2.0})
    assert frame.score.tolist() == [row["score"] for row in rows]
    assert frame.intermediate.isna().sum() == 6 * 4


def test_one_seed_has_no_intervals_unless_they_are_asked_for(early: Report, whole: Report) -> None:
    rows = [row for row in heatmap_rows(early) if row["difference_to_full"] is not None]
    ends = ("low", "high", "interval_over", "low_to_full", "high_to_full", "interval_to_full_over")
    assert len(rows) == 8
    assert all(row[key] is None for row in rows for key in ends)
    cells = references(early)
    assert "without intervals: three shared seeds are needed" in cells.note
    assert all("[" not in cell for row in cells.rows for cell in row)
    asked = replace(early, tables=compare_scored(early.scored.values(), sentence_intervals=True).tables_)
    assert {row["interval_over"] for row in heatmap_rows(asked)} == {"test sentences"}
    assert "over test sentences alone" in references(asked).note
    assert {row["interval_over"] for row in heatmap_rows(whole)} == {"seeds and test sentences"}


def test_what_is_no_equal_stands_apart_in_every_table_and_figure(whole: Report) -> None:
    """The runs of seed 2 were scored on other data: two tables of one target, whose numbers are never mixed."""
    scored = [
        replace(
            entry,
            scores=entry.scores.model_copy(
                update={"test_data": {"de": "new" if entry.run.record.seed == 2 else "old"}}
            ),
        )
        for entry in whole.scored.values()
    ]
    report = replace(whole, tables=compare_scored(scored).tables_)
    assert {name: table.seeds for name, table in report.named_tables.items()} == {"udpos-1": (0, 1), "udpos-2": (2,)}
    cost = {(row["target"], row["row"]): row["score"] for row in cost_rows(report)}
    # Level 60, 3 a seed, 6 more in German of three languages.
    assert (cost["udpos-1", "bottleneck none"], cost["udpos-2", "bottleneck none"]) == pytest.approx((63.5, 68.0))
    assert {target for target, _ in heatmap_grid(report)[0]} == {"udpos-1", "udpos-2"}
    assert {"summary-udpos-1", "summary-udpos-2"} <= set(all_tables(report))
    text = page(report)
    assert text.count("udpos-1: not in this table: ") == 1
    assert "(other test data in de)." in text
    assert "udpos-2, mean without en (accuracy)" in text
    assert "not in this table" in as_latex(all_tables(report)["summary-udpos-1"], "own")
