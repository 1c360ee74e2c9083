"""A comparison of real, tiny runs: every number in it recomputed from the runs' own scores."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from support.training import (
    CHINESE,
    GERMAN,
    Workspace,
    draw_sentences,
    english_task,
    make_workspace,
    write_conllu,
    write_task,
)

from adapter_stilts.analysis.compare import Comparison, compare_runs
from adapter_stilts.analysis.table import Row, Table
from adapter_stilts.errors import UsageError
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.runs.store import Run

LANGUAGES = (
    "{en: {train: en-train.conllu, validation: en-dev.conllu, test: en-test.conllu}, de: {test: de-test.conllu}, "
    "nl: {test: nl-test.conllu}, zh: {test: zh-test.conllu}, fr: {validation: en-dev.conllu}}"
)
METRIC = "accuracy"


@dataclass(frozen=True)
class Compared:
    workspace: Workspace
    runs: dict[str, Run]
    means: dict[str, dict[str, float]]
    comparison: Comparison

    @property
    def table(self) -> Table:
        (table,) = self.comparison.tables_
        return table

    def row(self, label: str) -> Row:
        return next(row for row in self.table.rows if row.label == label)

    def mean(self, name: str) -> float:
        by_language = self.means[name]
        return sum(by_language[code] for code in ("de", "nl", "zh")) / 3


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compared]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace = make_workspace(tmp_path_factory.mktemp("compare"), monkeypatch)
        folder = workspace.folder / "target"
        english_task(folder)
        for code, words in (("de", GERMAN), ("nl", GERMAN), ("zh", CHINESE)):
            write_conllu(folder / f"{code}-test.conllu", draw_sentences(words, 12, len(code) + ord(code[0])))
        target = write_task(folder, languages=LANGUAGES)
        under = english_task(workspace.folder / "under", "under", shift=1)
        runs, means = {}, {}
        for seed in (0, 1):
            for method in ("bottleneck", "full"):
                intermediate = workspace.train(under, method=method, seed=seed)
                for name, over in (("none", []), ("over", [intermediate])):
                    run = workspace.train(target, over=over, method=method, seed=seed)
                    scores = evaluate(run, runs=workspace.store)
                    runs[f"{method} {name} {seed}"] = run
                    means[f"{method} {name} {seed}"] = {
                        code: values[METRIC] for code, values in scores.languages.items()
                    }
        yield Compared(workspace, runs, means, compare_runs(workspace.store))


def test_rows_come_adapters_first_and_average_their_seeds(compared: Compared) -> None:
    labels = [row.label for row in compared.table.rows]
    assert labels == ["bottleneck none", "bottleneck stack over under", "full none", "full continue over under"]
    row = compared.row("bottleneck stack over under")
    both = [compared.mean(f"bottleneck over {seed}") for seed in (0, 1)]
    assert row.seeds == (0, 1)
    assert row.mean_zero_shot == pytest.approx(sum(both) / 2)
    assert row.spread == pytest.approx(abs(both[0] - both[1]))


def test_deltas_are_paired_by_seed_and_language(compared: Compared) -> None:
    delta = compared.row("bottleneck stack over under").delta_none
    assert delta is not None
    assert delta.against == "bottleneck none"
    for code in ("en", "de", "nl", "zh"):
        expected = [
            compared.means[f"bottleneck over {seed}"][code] - compared.means[f"bottleneck none {seed}"][code]
            for seed in (0, 1)
        ]
        assert delta.languages[code] == pytest.approx(sum(expected) / 2)
    expected = [compared.mean(f"bottleneck over {seed}") - compared.mean(f"bottleneck none {seed}") for seed in (0, 1)]
    assert delta.interval.value == pytest.approx(sum(expected) / 2)
    assert (delta.interval.low, delta.interval.high, delta.over) == (None, None, None)


def test_adapters_stand_against_the_matching_full_row(compared: Compared) -> None:
    stacked, alone = compared.row("bottleneck stack over under"), compared.row("bottleneck none")
    assert stacked.delta_full is not None
    assert stacked.delta_full.against == "full continue over under"
    assert alone.delta_full is not None
    assert alone.delta_full.against == "full none"
    assert alone.delta_none is None
    assert compared.row("full continue over under").delta_full is None
    expected = [compared.mean(f"bottleneck over {seed}") - compared.mean(f"full over {seed}") for seed in (0, 1)]
    assert stacked.delta_full.interval.value == pytest.approx(sum(expected) / 2)


def test_families_leave_english_out(compared: Compared) -> None:
    families = compared.row("bottleneck none").families
    scores = compared.row("bottleneck none").languages
    assert families["IE: Germanic"] == pytest.approx((scores["de"] + scores["nl"]) / 2)
    assert families["Sino-Tibetan"] == pytest.approx(scores["zh"])
    assert len(families) == 2


def test_a_table_says_what_it_is(compared: Compared) -> None:
    table = compared.table
    assert (table.target, table.metric, table.train_examples, table.test_examples) == ("tags", METRIC, 24, None)
    assert table.seeds == (0, 1)
    assert list(table.missing) == ["fr"]
    adapters = [row for row in table.rows if row.method == "bottleneck"]
    assert table.chosen == max(adapters, key=lambda row: row.development).label
    assert table.oracle == max(adapters, key=lambda row: row.mean_zero_shot).label
    text = compared.comparison.markdown()
    assert "under three seeds: no ranking follows" in text
    assert "missing: fr" in text


def test_intermediates_and_parameters_stand_beside(compared: Compared) -> None:
    row = compared.row("bottleneck stack over under")
    over = [compared.runs[f"bottleneck over {seed}"].record.over[0].development for seed in (0, 1)]
    assert row.intermediate_development == (pytest.approx(sum(over) / 2),)
    record = compared.runs["bottleneck over 0"].record
    assert (row.trainable_parameters, row.total_parameters) == (record.trainable_parameters, record.total_parameters)


def test_json_is_the_whole_comparison(compared: Compared) -> None:
    (table,) = json.loads(json.dumps(compared.comparison.as_json()))["tables"]
    assert table["rows"][1]["delta_none"]["interval"]["value"] == pytest.approx(
        compared.row("bottleneck stack over under").delta_none.interval.value  # type: ignore[union-attr]
    )


def test_terminal_and_markdown_show_the_same_cells(compared: Compared) -> None:
    console = Console(file=StringIO(), width=400)
    for table in compared.comparison.tables():
        console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    cell = f"{compared.row('bottleneck none').mean_zero_shot:.1f} ±"
    assert cell in shown
    assert cell in compared.comparison.markdown()


def test_given_runs_alone_are_compared(compared: Compared) -> None:
    runs = [compared.runs["bottleneck none 0"], compared.runs["bottleneck over 0"]]
    (table,) = compare_runs(compared.workspace.store, runs).tables_
    assert [row.label for row in table.rows] == ["bottleneck none", "bottleneck stack over under"]
    assert table.rows[1].delta_full is None


def test_a_control_is_known_through_all_that_stands_on_it(compared: Compared) -> None:
    workspace = compared.workspace
    shuffled, target = workspace.folder / "under" / "under.yaml", workspace.folder / "target" / "tags.yaml"
    stack = workspace.train(str(target), over=[f"{shuffled}@shuffled"])
    (intermediate,) = stack.record.over
    assert (intermediate.label, intermediate.control) == ("under (shuffled)", "shuffled")
    (deep,) = workspace.train(english_task(workspace.folder / "third", "third", shift=2), over=[stack]).record.over
    assert (deep.label, deep.control) == ("tags (stack over under (shuffled))", "shuffled")
    assert compared.runs["bottleneck over 0"].record.over[0].control is None


def test_one_row_with_two_recipes_is_refused(compared: Compared) -> None:
    task = write_task(compared.workspace.folder / "target", languages=LANGUAGES)
    other = compared.workspace.train(task, settings={"epochs": "1"})
    evaluate(other, runs=compared.workspace.store)
    with pytest.raises(UsageError, match=r"different recipes \(epochs: 1 and 2\)"):
        compare_runs(compared.workspace.store, [compared.runs["bottleneck none 0"], other])


def test_nothing_scored_says_how_to_score(compared: Compared, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="adapter-stilts evaluate RUN"):
        compare_runs(compared.workspace.store, limit=7)
