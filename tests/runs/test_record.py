"""The packages that a record notes."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from support.records import write_run

from adapter_stilts.errors import StiltsError
from adapter_stilts.runs.record import PACKAGES, RECORD, Executed, package_versions, read_record, write_record
from adapter_stilts.runs.stored import content_seal


def test_noted_packages_are_those_that_every_installation_has() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=\[]", requirement)[0] for requirement in project["dependencies"]}
    assert set(PACKAGES) - {project["name"]} <= needed
    assert package_versions()[0].keys() == set(PACKAGES)


def test_a_record_of_a_package_that_is_no_longer_noted_is_read(tmp_path: Path) -> None:
    run = write_run(tmp_path, "bottleneck", "none", 80)
    packages = {"seqeval": "1.2.2", "torch": "2.13.0"}
    write_record(run.folder, run.record.model_copy(update={"packages": packages}))
    assert "seqeval" not in PACKAGES
    assert read_record(run.folder).packages == packages


def test_a_record_from_before_runs_said_how_they_were_executed_is_read(tmp_path: Path) -> None:
    """Its seal is over what it holds, and none of that has changed; it keeps what it says when it is written anew."""
    run = write_run(tmp_path, "bottleneck", "none", 80)
    content = json.loads((run.folder / RECORD).read_text())
    del content["executed"], content["seal"]
    content["seal"] = content_seal(content)
    (run.folder / RECORD).write_text(json.dumps(content))
    record = read_record(run.folder)
    assert (record.format, record.executed) == (3, None)
    assert write_record(run.folder, record).executed is None
    executed = Executed(step="captured", compiled=True, checkpointing=False)
    write_record(run.folder, record.model_copy(update={"executed": executed}))
    assert read_record(run.folder).executed == executed
    (run.folder / RECORD).write_text(json.dumps({**content, "limit": 5}))
    with pytest.raises(StiltsError, match="altered since it was written"):
        read_record(run.folder)
