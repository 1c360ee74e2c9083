"""`report` and `watch` over a study that trains: a tiny backbone, one intermediate, English alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from support.studies import make_study_workspace, plan_of, write_study
from support.training import Workspace

from adapter_stilts.analysis.frame import load_study
from adapter_stilts.cli import reports
from adapter_stilts.studies.scheduler import run_plan

STUDY = "targets: [tags/tags.yaml]\nintermediates: [other/other.yaml]\ncompositions: [none, stack]\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    return make_study_workspace(tmp_path, monkeypatch)


def options(workspace: Workspace) -> dict:
    return {
        "backbone": workspace.backbone.id,
        "runs": workspace.store.folder,
        "device": "cpu",
        "out": workspace.folder / "out",
    }


def test_commands_are_ready_to_be_registered() -> None:
    app = typer.Typer()
    for command in (reports.report, reports.watch):
        app.command()(command)
    assert sorted(typer.main.get_command(app).commands) == ["report", "watch"]  # type: ignore[attr-defined]


def test_watch_writes_anew_until_all_is_in(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    path, page = write_study(workspace, STUDY), workspace.folder / "out" / "index.html"
    seen: list[str] = []

    def sleep(seconds: float) -> None:
        """The study runs to its end between the second look and the third."""
        if page.is_file():
            seen.append(page.read_text(encoding="utf-8"))
        if len(seen) == 2:
            run_plan(plan_of(workspace, STUDY), workers=0)

    monkeypatch.setattr(reports.time, "sleep", sleep)
    reports.watch(str(path), every=7, **options(workspace))
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert '<meta http-equiv="refresh" content="7">' in seen[0]
    assert "0 of 2 target runs" in seen[0]
    assert "tags bottleneck stack over other, seed 0: not done" in seen[0]
    after = page.read_text(encoding="utf-8")
    assert "All 2 target runs are in this report." in after
    assert "http-equiv" not in after
    assert (
        "Nothing can be said yet of bottleneck stack: observations: found none outside the languages trained" in after
    )

    monkeypatch.undo()
    frame = load_study(path, runs=workspace.store.folder, backbone=workspace.backbone.id, device="cpu")
    written = load_study(workspace.folder / "out")
    assert frame.score.tolist() == written.score.tolist()
    assert frame.composition.tolist() == ["none", "stack"]
    assert frame.delta_none.iloc[1] == pytest.approx(frame.score.iloc[1] - frame.score.iloc[0])
