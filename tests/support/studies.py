"""A place for tests of studies: three small tasks beside a study's file, on the tiny backbone."""

from pathlib import Path
from typing import Any

import pytest

from adapter_stilts.studies.plan import Plan, make_plan
from adapter_stilts.studies.reading import read_study
from support.training import Place, english_task, make_place

TASKS = ("tags", "other", "third")
SMALL = """\
targets: [tags/tags.yaml]
intermediates: [other/other.yaml, third/third.yaml]
compositions: [none, stack, fuse]
"""


def make_study_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place with the tasks `tags`, `other` and `third`."""
    place = make_place(folder, monkeypatch)
    for shift, name in enumerate(TASKS):
        english_task(folder / name, name, shift=shift)
    return place


def write_study(place: Place, text: str = SMALL, name: str = "small") -> Path:
    path = place.folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def plan_of(place: Place, text: str = SMALL, **options: Any) -> Plan:
    """The plan of a study with that text, over the place's store."""
    return make_plan(
        read_study(write_study(place, text)), place.store, backbone=place.backbone, device="cpu", **options
    )
