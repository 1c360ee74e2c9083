"""Commands run in this process, as typed: what they print, and how they end."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from adapter_stilts.cli import app
from support.training import Workspace, english_task, make_workspace

BOX_OR_COLOUR = set("─│┃━┏┓└┘┼\x1b")


def make_cli_workspace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace whose store is the default one, with the tasks `tags` and `other`."""
    workspace = make_workspace(folder, monkeypatch)
    monkeypatch.setenv("ADAPTER_STILTS_RUNS", str(workspace.store.folder))
    english_task(workspace.folder / "tags")
    english_task(workspace.folder / "other", "other", shift=1)
    return workspace


def yaml_of(workspace: Workspace, task: str = "tags") -> str:
    return str(workspace.folder / task / f"{task}.yaml")


def on_tiny(workspace: Workspace) -> list[str]:
    """Options that choose the tiny backbone, on the CPU."""
    return ["--backbone", str(workspace.folder / "tiny"), "--device", "cpu"]


def train_arguments(workspace: Workspace, task: str = "tags") -> list[str]:
    return ["train", yaml_of(workspace, task), *on_tiny(workspace)]


def command(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


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
