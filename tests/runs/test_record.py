"""The packages that a record notes."""

import re
import tomllib
from pathlib import Path

from support.records import write_run

from adapter_stilts.runs.record import PACKAGES, package_versions, read_record, write_record


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
