"""The page: well-formed, self-contained, readable without colour and without sight, with the answer first."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.fake_study import study_of

from adapter_stilts.report import style, svg
from adapter_stilts.report.content import Report, missing_runs
from adapter_stilts.report.page import page, tint
from adapter_stilts.runs.store import RunStore
from adapter_stilts.runs.tidy import FAILURES
from adapter_stilts.studies.grid import expand
from adapter_stilts.studies.plan import StudyRun

VOID = {"meta", "br", "img", "input", "hr"}
SVG = "{http://www.w3.org/2000/svg}"


class Tree(HTMLParser):
    """Elements as (path of names, attributes, text); fails where an element is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, list[str]]] = []
        self.elements: list[tuple[tuple[str, ...], dict[str, str | None], list[str]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        texts: list[str] = []
        self.elements.append(((*(name for name, _ in self.open), tag), dict(attrs), texts))
        if tag not in VOID:
            self.open.append((tag, texts))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(((*(name for name, _ in self.open), tag), dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, texts in self.open:
            texts.append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(texts) for path, _, texts in self.elements if path[-1] == tag]


@pytest.fixture(scope="module")
def tree(whole: Report) -> Tree:
    return Tree(page(whole, ["data/scores.csv"]))


def test_the_answer_comes_first(tree: Tree, whole: Report) -> None:
    assert tree.texts("h1") == ["made_up"]
    assert tree.texts("h2")[0] == "Answer"
    after = tree.texts("p")
    assert after[0] == "Is 1 < 2 & so on?"
    assert after[2] == whole.answers[0].sentence
    assert re.search(
        r"\+2\.\d points \[[-+]\d+\.\d, [-+]\d+\.\d\] \(syntactic minus semantic, n = 8 tasks\)\.$", after[2]
    )
    assert after[3] == " ".join(whole.answers[0].limits)
    assert (
        "Measured zero-shot on udpos (3 languages), 3 seeds, bottleneck stack against no intermediate task." in after[3]
    )


def test_nothing_is_read_from_elsewhere(whole: Report) -> None:
    text = page(whole)
    assert "<script" not in text
    assert "<link" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert set(re.findall(r"https?://[^\"' <]+", text)) == {"http://www.w3.org/2000/svg"}
    assert " src=" not in text


def test_headings_tables_and_figures_have_names(tree: Tree) -> None:
    levels = [path[-1] for path, _, _ in tree.elements if re.fullmatch("h[1-6]", path[-1])]
    assert levels[0] == "h1"
    assert set(levels[1:]) == {"h2"}
    ids = [attributes["id"] for _, attributes, _ in tree.elements if "id" in attributes]
    labels = [attributes["aria-labelledby"] for _, attributes, _ in tree.elements if "aria-labelledby" in attributes]
    assert ids == labels
    assert len(set(ids)) == len(ids) >= 7
    tables = [path for path, _, _ in tree.elements if path[-1] == "table"]
    assert len(tables) == len(tree.texts("caption")) >= 7
    assert all(tree.texts("caption"))
    assert all(path[-2] == "div" for path in tables), "a table scrolls in its own box"
    assert tree.texts("figcaption")[0] == "bottleneck stack, against none"


def test_figures_are_images_with_title_and_description_as_wide_as_a_phone(whole: Report) -> None:
    drawn = [ET.fromstring(source) for source in re.findall(r"<svg xmlns.*?</svg>", page(whole))]
    # Both rows against none, and adapters against full STILTs; a panel of languages a row; two of cost.
    assert len(drawn) == 3 + 2 + 2
    for figure in drawn:
        assert (figure[0].tag, figure[1].tag) == (f"{SVG}title", f"{SVG}desc")
        assert figure[0].text
        assert figure[1].text
        assert figure.get("role") == "img"
        assert float(figure.get("width", 0)) <= 360 - 2 * 16
        xs = [float(part.get(key, 0)) for part in figure.iter() for key in ("x", "cx", "x1", "x2") if part.get(key)]
        assert min(xs) >= 0
        assert max(xs) <= svg.WIDTH


def test_the_heatmap_has_a_signed_number_in_every_cell(whole: Report) -> None:
    heat = re.search('<table class="heat">.*?</table>', page(whole))
    assert heat
    rows = re.findall('<tr><th scope="row">(.*?)<small>.*?</small></th>(.*?)</tr>', heat.group())
    cells = {name: re.findall('<td class="(.*?)">(.*?)</td>', row) for name, row in rows}
    assert cells["ud_deprel"] == [("gain4", "+2.0"), ("gain4", "+2.0")]
    assert cells["mrpc"] == [("loss4", "−3.0"), ("loss4", "−3.0")]
    assert cells["rte"] == [("even", "0.0"), ("even", "0.0")]
    assert cells["pmb_semtag (shuffled)"] == [("loss3", "−1.0"), ("none", "not run")]
    assert list(cells)[-2:] == ["ud_deprel (random)", "pmb_semtag (shuffled)"]


def test_steps_of_the_heatmap_and_what_hatches_a_loss() -> None:
    assert [tint(value) for value in (0.24, 0.25, -0.5, 1.99, -7)] == ["even", "gain1", "loss2", "gain3", "loss4"]
    assert style.STYLE.count("repeating-linear-gradient") == 4
    assert all(f".loss{step}{{background:repeating-linear-gradient" in style.STYLE for step in (1, 2, 3, 4))


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ground", ["#ffffff", *style._GAINS, *style._LOSSES])
def test_ink_has_the_contrast_of_wcag_on_every_ground(ground: str) -> None:
    ratios = [(luminance(ground) + 0.05) / (luminance(ink) + 0.05) for ink in (svg.INK, "#4a4a4a")]
    assert min(ratios) >= 4.5


def test_marks_have_the_contrast_of_graphics_and_soft_text_that_of_text() -> None:
    soft, first, second = ((1.05) / (luminance(colour) + 0.05) for colour in (svg.SOFT, svg.FIRST, svg.SECOND))
    assert soft >= 4.5
    assert min(first, second) >= 3


def test_a_whole_report_says_so_and_stays(whole: Report) -> None:
    text = page(whole)
    assert "All 60 target runs are in this report." in text
    assert "http-equiv" not in text
    assert "missing runs" not in text
    assert "no ranking" not in text


def test_an_early_report_names_what_is_missing_and_comes_again(early: Report) -> None:
    text = page(early, refresh=30)
    assert '<meta http-equiv="refresh" content="30">' in text
    assert "20 of 60 target runs are in this report: preliminary; read anew every 30 s." in text
    assert '<progress max="60" value="20"' in text
    assert "So far: " in text
    assert "Failed or missing runs: 40" in text
    assert "udpos full continue over rte, seed 2: not done" in text
    assert "<summary>28 more</summary>" in text
    assert "Under three seeds: no ranking follows." in text


def test_what_was_measured_stands_above_the_tables(tree: Tree) -> None:
    (row,) = [text for text in tree.texts("tr") if text.startswith("udposaccuracy")]
    assert row == "udposaccuracy, testfirst_contentnoneen1,000all sentences40, 1, 2"


def test_no_word_ranks(early: Report) -> None:
    body = page(early).partition("<body>")[2]
    assert not re.search(r"\b(best|worst|winner|wins|beats|better|worse)\b", re.sub("<[^>]+>", " ", body))


def test_nothing_finished_is_a_page_as_well(early: Report) -> None:
    from adapter_stilts.report.content import make_report
    from adapter_stilts.runs.store import RunStore
    from adapter_stilts.studies.grid import expand
    from adapter_stilts.studies.plan import StudyRun

    runs = [StudyRun(cell, cell.label, None, None) for cell in expand(early.study)]
    text = page(make_report(early.study, runs, RunStore("nowhere")))
    assert "0 of 60 target runs" in text
    assert "No run that could answer is finished yet." in text
    assert "<svg" not in text


def test_an_intermediate_that_one_seed_did_not_learn_is_named(whole: Report) -> None:
    first, *others = whole.below
    uneven = replace(first, control=None, metric="accuracy", lowest=31.8, highest=62.0)
    named = f"{first.task} ({first.method}) did not learn alike under every seed: its own development accuracy is 31.8"
    assert named in page(replace(whole, below=(uneven, *others)), [])
    assert "did not learn alike" not in page(
        replace(
            whole, below=tuple(replace(intermediate, highest=intermediate.lowest + 5.0) for intermediate in whole.below)
        ),
        [],
    )


def test_an_intermediate_near_the_majority_class_is_named(whole: Report) -> None:
    """From 3 points above it on nothing is said; where it is not known, nothing either."""
    first, *others = whole.below
    poor = replace(first, control=None, metric="accuracy", development=70.4, majority=67.8)
    named = (
        f"{first.task} ({first.method}) was hardly learnt: its own development accuracy is 70.4, the majority class "
        "has 67.8; rows over it say little of its kind."
    )
    assert named in page(replace(whole, below=(poor, *others)), [])
    for majority in (67.3, None):
        assert "hardly learnt" not in page(replace(whole, below=(replace(poor, majority=majority), *others)), [])
    shuffled = replace(poor, control="shuffled")
    assert "hardly learnt" not in page(replace(whole, below=(shuffled, *others)), [])


def test_a_target_that_collapsed_is_named(whole: Report) -> None:
    """More than 20 points under the run of its method and seed without an intermediate, by its own score."""
    stacked = (name for name, entry in whole.scored.items() if entry.run.record.composition == "stack")
    name = next(name for name in stacked if whole.scored[name].run.record.seed)
    entry = whole.scored[name]
    usual = entry.run.record.development  # 90 of every run that is written by hand

    def with_score(development: float) -> str:
        record = entry.run.record.model_copy(update={"development": development})
        changed = replace(entry, run=replace(entry.run, record=record))
        return page(replace(whole, scored={**whole.scored, name: changed}), [])

    record = entry.run.record
    assert (
        f"udpos, {record.method} stack over {record.over[0].label} collapsed in training (seed {record.seed}): its own "
        f"development accuracy is 14.8, without an intermediate {usual:.1f}; it counts like any other row."
    ) in with_score(14.8)
    assert "collapsed" not in with_score(usual - 20.0)
    assert "collapsed" not in page(whole, [])


def test_why_a_run_failed_is_read_in_the_store_alone(tmp_path: Path) -> None:
    study = study_of(tmp_path, "targets: [udpos]\nmethods: [bottleneck]\ncompositions: [none]\nbackbone: embedded\n")
    store, (cell,) = RunStore(tmp_path / "runs"), expand(study)
    failure = store.folder / FAILURES / "udpos.txt"
    failure.parent.mkdir(parents=True)
    (tmp_path / "secret").write_text("SECRET")
    failure.write_text("Traceback\nValueError: no <b>")
    runs = [StudyRun(cell, "udpos", None, None)]
    assert [missing.reason for missing in missing_runs(runs, store)] == ["ValueError: no <b>"]
    failure.unlink()
    failure.symlink_to(tmp_path / "secret")
    (missing,) = missing_runs(runs, store)
    assert missing.reason == f"{failure}: found a link to what is outside {store.folder}, accepted the file itself"
