"""Commands run in this process, as typed: what they print, and how they end."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from adapter_stilts.cli import app
from support.training import Place, english_task, make_place

BOX_OR_COLOUR = set("─│┃━┏┓└┘┼\x1b")


def make_cli_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place whose store is the default one, with the tasks `tags` and `other`."""
    place = make_place(folder, monkeypatch)
    monkeypatch.setenv("ADAPTER_STILTS_RUNS", str(place.store.folder))
    english_task(place.folder / "tags")
    english_task(place.folder / "other", "other", shift=1)
    return place


def yaml_of(place: Place, task: str = "tags") -> str:
    return str(place.folder / task / f"{task}.yaml")


def on_tiny(place: Place) -> list[str]:
    """Options that choose the tiny backbone, on the CPU."""
    return ["--backbone", str(place.folder / "tiny"), "--device", "cpu"]


def train_arguments(place: Place, task: str = "tags") -> list[str]:
    return ["train", yaml_of(place, task), *on_tiny(place)]


def command(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(own) for own in arguments])


def succeeded(*arguments: Any) -> str:
    """What the command wrote to standard output."""
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    assert not BOX_OR_COLOUR & set(result.stdout)
    return result.stdout


def failed(code: int, *arguments: Any) -> str:
    """The one line on standard error."""
    result = command(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.rstrip("\n")
