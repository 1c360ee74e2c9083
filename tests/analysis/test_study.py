"""From scored runs to observations: which run stands against which, what is left out, and a study as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_study import GRID, LANGUAGES, fake_runs, no_noise, noisy, study_of

from adapter_stilts.analysis.compare import compare_scored
from adapter_stilts.analysis.frame import COLUMNS, score_rows
from adapter_stilts.analysis.scored import Scored
from adapter_stilts.analysis.study import MEANING, fit_rows, observe, scored_runs
from adapter_stilts.statistics.effects import fit_effects
from adapter_stilts.studies.grid import Cell

FEW = GRID.replace("[udpos, wikiann]", "[udpos]").replace(", pawsx_devtest, snli_devtest, mrpc, rte", "")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scored]:
    """udpos over four intermediates: every difference is known."""
    folder = tmp_path_factory.mktemp("study")
    return scored_runs(fake_runs(folder, study_of(folder, FEW), languages=("de", "zh")))


def test_differences_are_those_to_the_run_of_the_same_seed(scored: dict[str, Scored]) -> None:
    observed = observe(scored.values())
    assert {one.seed for one in observed.observations} == {0, 1, 2}
    assert {one.language for one in observed.observations} == {"en", "de", "zh"}
    zero_shot = [one for one in observed.observations if one.zero_shot]
    assert {(one.knowledge, one.delta) for one in zero_shot} == {("syntactic", 2.0), ("semantic", 0.0)}
    assert {(one.method, one.composition) for one in zero_shot} == {("bottleneck", "stack"), ("full", "continue")}


def test_every_run_is_observed_or_counted_as_left_out(scored: dict[str, Scored]) -> None:
    observed = observe(scored.values())
    assert observed.left_out == {"no intermediate": 6, "control (random)": 3, "control (shuffled)": 3}
    assert observed.runs == 4 * 3 * 2
    assert observed.runs + sum(observed.left_out.values()) == len(scored)
    assert len(observed.observations) == observed.runs * 3


def test_against_full_stilts_over_the_same_intermediate(scored: dict[str, Scored]) -> None:
    observed = observe(scored.values(), "full")
    assert {one.delta for one in observed.observations if one.zero_shot} == {-5.0}
    assert observed.left_out["full STILTs, the reference itself"] == 4 * 3
    assert {one.method for one in observed.observations} == {"bottleneck"}


def test_against_an_untrained_intermediate_of_any_task(scored: dict[str, Scored]) -> None:
    """The random control of ud_deprel stands for all: 1 point below none."""
    observed = observe(scored.values(), "random")
    observed_deltas = {(one.intermediate, one.delta) for one in observed.observations if one.zero_shot}
    assert observed.shared
    assert not observe(scored.values(), "full").shared
    assert observed_deltas == {("ud_deprel", 3.0), ("chunking", 3.0), ("cola", 3.0), ("pmb_semtag", 1.0)}
    assert observed.left_out[f"no run of its seed to stand against ({MEANING['random']})"] == 4 * 3


def test_a_reference_that_is_missing_leaves_its_seed_out(tmp_path: Path) -> None:
    def finished(cell: Cell) -> bool:
        return (cell.method, cell.composition, cell.seed) != ("bottleneck", "none", 1)

    runs = fake_runs(tmp_path, study_of(tmp_path, FEW), languages=("de",), finished=finished)
    observed = observe(scored_runs(runs).values())
    stacked = [one for one in observed.observations if one.method == "bottleneck"]
    assert {one.seed for one in stacked} == {0, 2}
    assert observed.left_out[f"no run of its seed to stand against ({MEANING['none']})"] == 4


def test_an_unknown_kind_is_left_out_by_name(scored: dict[str, Scored]) -> None:
    def unlabelled(entry: Scored) -> Scored:
        over = tuple(
            under.model_copy(update={"knowledge": "none"}) if under.task == "cola" else under
            for under in entry.run.record.over
        )
        return replace(entry, run=replace(entry.run, record=entry.run.record.model_copy(update={"over": over})))

    observed = observe(map(unlabelled, scored.values()))
    assert observed.left_out["cola: knowledge none, granularity sentence"] == 6
    assert "cola" not in {one.intermediate for one in observed.observations}


def test_a_variant_of_the_target_is_a_composition_of_its_own(scored: dict[str, Scored]) -> None:
    def varied(entry: Scored) -> Scored:
        return replace(
            entry, run=replace(entry.run, record=entry.run.record.model_copy(update={"variant": "layers=2-3"}))
        )

    some = [varied(entry) if entry.run.record.composition == "stack" else entry for entry in scored.values()]
    assert {one.composition for one in observe(some).observations} == {"stack (layers=2-3)", "continue"}


def test_the_tables_are_those_of_compare(scored: dict[str, Scored]) -> None:
    (table,) = compare_scored(scored.values()).tables_
    rows = {row.label: row for row in table.rows}
    stacked = rows["bottleneck stack over ud_deprel"]
    assert stacked.delta_none is not None
    assert stacked.delta_full is not None
    assert (stacked.delta_none.interval.value, stacked.delta_full.interval.value) == pytest.approx((2.0, -5.0))


def test_statistics_are_those_of_the_observations(tmp_path: Path) -> None:
    study = study_of(tmp_path, GRID.replace("[udpos, wikiann]", "[udpos]"))
    runs = fake_runs(tmp_path, study, noisy(), LANGUAGES[:3])
    observed = observe(scored_runs(runs).values())
    fits = fit_rows(observed, resamples=0)
    assert [(fit.method, fit.composition) for fit in fits] == [("bottleneck", "stack"), ("full", "continue")]
    for fit in fits:
        of_row = [
            one for one in observed.observations if (one.method, one.composition) == (fit.method, fit.composition)
        ]
        assert fit.effects == fit_effects(of_row, MEANING["none"], resamples=0)
    assert fits[0].effects != fits[1].effects


def test_what_cannot_be_fitted_says_why(scored: dict[str, Scored]) -> None:
    observed = observe(scored.values())
    english = replace(observed, observations=tuple(one for one in observed.observations if not one.zero_shot))
    assert [fit.effects for fit in fit_rows(english)] == [None, None]
    assert "none outside the languages trained on (en)" in fit_rows(english)[0].reason


def test_what_is_known_is_not_read_again(tmp_path: Path) -> None:
    runs = fake_runs(tmp_path, study_of(tmp_path, FEW), languages=("de",))
    before = scored_runs(runs)
    after = scored_runs(runs, before)
    assert all(after[name] is entry for name, entry in before.items())


def test_rows_of_the_frame_by_hand(scored: dict[str, Scored]) -> None:
    rows = score_rows(scored)
    assert len(rows) == len(scored) * 3
    assert tuple(rows[0]) == COLUMNS
    (entry,) = [
        row
        for row in rows
        if (row["method"], row["intermediate"], row["control"], row["seed"], row["language"])
        == ("bottleneck", "ud_deprel", None, 2, "de")
    ]
    assert (
        entry["score"] == no_noise(Cell("udpos", "bottleneck", "stack", ("ud_deprel",), "", None, "all", 2), "de") == 74
    )
    assert (entry["delta_none"], entry["delta_full"], entry["delta_random"]) == (2.0, -5.0, 3.0)
    assert (entry["family"], entry["knowledge"], entry["sentences"]) == ("IE: Germanic", "syntactic", 20)
    kinds = Counter(row["control"] for row in rows)
    assert (kinds["random"], kinds["shuffled"]) == (9, 9)
