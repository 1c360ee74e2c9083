"""`--threads` of the commands that compute."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cli import command, failed, make_cli_workspace, succeeded, train_arguments, yaml_of
from support.training import Workspace

from adapter_stilts import evaluate
from adapter_stilts.errors import UsageError
from adapter_stilts.evaluation import zero_shot
from adapter_stilts.threads import usable_cores
from adapter_stilts.training import api

FEW = ["--limit", "6", "--set", "epochs=1"]
TOO_MANY = usable_cores() + 1
REFUSED = f"--threads: found {TOO_MANY}, accepted a whole number from 1 to {usable_cores()}"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    return make_cli_workspace(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def three() -> Iterator[None]:
    """A number of threads that no command is asked for."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_the_run_and_what_lies_under_it_train_with_so_many(workspace: Workspace) -> None:
    typed = ["--over", yaml_of(workspace, "other"), *FEW, "--threads", 1, "--json"]
    record = json.loads(succeeded(*train_arguments(workspace), *typed))
    assert (record["threads"], record["device"]) == (1, "CPU, 1 threads")
    assert workspace.store.find(record["over"][0]["run"]).record.threads == 1


def test_without_the_option_it_is_the_process_that_says(workspace: Workspace) -> None:
    assert json.loads(succeeded(*train_arguments(workspace), *FEW, "--json"))["threads"] == 3


def test_evaluation_computes_with_so_many(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    name = json.loads(succeeded(*train_arguments(workspace), *FEW, "--json"))["name"]
    seen = []
    predict_answers = zero_shot.predict_answers

    def noted(*arguments: Any) -> Any:
        seen.append(torch.get_num_threads())
        return predict_answers(*arguments)

    monkeypatch.setattr(zero_shot, "predict_answers", noted)
    one = succeeded("evaluate", name, "--device", "cpu", "--threads", 1, "--split", "validation", "--languages", "en")
    assert seen == [1]
    assert "en" in one


def test_predictions_are_the_same_with_so_many(workspace: Workspace) -> None:
    name = json.loads(succeeded(*train_arguments(workspace), *FEW, "--json"))["name"]
    text = workspace.folder / "text.txt"
    text.write_text("a b c\nb c a a\n")
    file = ["predict", name, text, "--format", "text", "--device", "cpu"]
    assert succeeded(*file, "--threads", 1) == succeeded(*file)


@pytest.mark.parametrize("name", ["train", "tune"])
def test_more_than_the_cores_are_refused_before_anything_trains(
    workspace: Workspace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "execute", None)
    arguments = [name, *train_arguments(workspace)[1:], "--threads", TOO_MANY]
    assert failed(2, *arguments) == REFUSED


def test_more_than_the_cores_are_refused_of_a_run(workspace: Workspace) -> None:
    name = json.loads(succeeded(*train_arguments(workspace), *FEW, "--json"))["name"]
    text = workspace.folder / "text.txt"
    text.write_text("a b c\n")
    for arguments in (["evaluate", name], ["predict", name, text, "--format", "text"]):
        assert failed(2, *arguments, "--threads", TOO_MANY) == REFUSED
    with pytest.raises(UsageError, match="--threads: found 0, accepted a whole number from 1 to"):
        evaluate(name, runs=workspace.store, threads=0)


def test_a_study_refuses_them_too(workspace: Workspace) -> None:
    result = command("study", "run", "quick", "--threads", 0, "--device", "cpu")
    assert result.exit_code == 2
    assert "--threads: found 0" in result.stderr
