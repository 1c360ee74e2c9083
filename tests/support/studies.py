"""A workspace for tests of studies: three small tasks beside a study's file, on the tiny backbone."""

from pathlib import Path
from typing import Any

import pytest

from adapter_stilts.studies.plan import Plan, make_plan
from adapter_stilts.studies.reading import read_study
from support.training import Workspace, english_task, make_workspace

TASKS = ("tags", "other", "third")
SMALL = """\
targets: [tags/tags.yaml]
intermediates: [other/other.yaml, third/third.yaml]
compositions: [none, stack, fuse]
"""


def make_study_workspace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with the tasks `tags`, `other` and `third`."""
    workspace = make_workspace(folder, monkeypatch)
    for shift, name in enumerate(TASKS):
        english_task(folder / name, name, shift=shift)
    return workspace


def write_study(workspace: Workspace, text: str = SMALL, name: str = "small") -> Path:
    path = workspace.folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def plan_of(workspace: Workspace, text: str = SMALL, **options: Any) -> Plan:
    """The plan of a study with that text, over the workspace's store."""
    return make_plan(
        read_study(write_study(workspace, text)), workspace.store, backbone=workspace.backbone, device="cpu", **options
    )
