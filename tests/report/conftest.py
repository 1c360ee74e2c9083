"""A report of a study whose every difference is known, whole and half-way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.fake_study import GRID, fake_runs, no_noise, study_of

from adapter_stilts.report.content import Report, make_report
from adapter_stilts.runs.store import RunStore
from adapter_stilts.studies.grid import Cell

QUESTION = "Is 1 < 2 & so on?"
TEXT = GRID.replace("Do they differ?", QUESTION).replace("[udpos, wikiann]", "[udpos]")


def uneven(cell: Cell, code: str) -> int:
    """`no_noise` with one intermediate 3 below its kind, so that there is a measure of chance."""
    return no_noise(cell, code) - 3 * (cell.over[:1] == ("mrpc",))


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Report]:
    """The whole report, and that of its first seed alone."""
    folder = tmp_path_factory.mktemp("reports")
    study, store = study_of(folder, TEXT), RunStore(folder / "runs")
    store.folder.mkdir()
    runs = fake_runs(store.folder, study, uneven, languages=("de", "nl", "ru"))
    early = [
        run if run.cell.seed == 0 else replace(run, name=run.cell.label, run=None, evaluation=None) for run in runs
    ]
    whole = make_report(study, runs, store, resamples=20)
    return whole, make_report(study, early, store, known=whole.scored, resamples=0)


@pytest.fixture(scope="session")
def whole(reports: tuple[Report, Report]) -> Report:
    return reports[0]


@pytest.fixture(scope="session")
def early(reports: tuple[Report, Report]) -> Report:
    return reports[1]
