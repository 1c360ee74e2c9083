"""`train` and `tune` from Python: what one may pass, and what is noticed before anything trains."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.training import Workspace, english_task, make_workspace

from adapter_stilts.errors import UsageError
from adapter_stilts.runs.store import RunStore
from adapter_stilts.training import api
from adapter_stilts.training.api import train
from adapter_stilts.training.execution import Execution
from adapter_stilts.training.tune import tune

EPOCH = {"epochs": 1}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace = make_workspace(tmp_path_factory.mktemp("api"), monkeypatch)
        for shift, name in enumerate(("target", "below")):
            english_task(workspace.folder / name, name, shift=shift)
        yield workspace


def yaml_of(workspace: Workspace, name: str = "target") -> Path:
    return workspace.folder / name / f"{name}.yaml"


def test_values_and_texts_name_the_same_run(workspace: Workspace) -> None:
    texts = {"epochs": "1", "learning_rate": "0.002", "fusion_null": "true", "layers": "0,1"}
    values = {"epochs": 1, "learning_rate": 2e-3, "fusion_null": True, "layers": [0, 1]}
    for settings in (texts, values):
        settings.pop("fusion_null")  # decides nothing here
    one = workspace.train(yaml_of(workspace), settings=texts, languages="en")
    other = train(
        yaml_of(workspace), settings=values, languages=["en"], backbone=workspace.folder / "tiny", runs=workspace.store
    )
    assert (one.name, one.record.languages) == (other.name, ("en",))


def test_one_intermediate_is_no_list_of_letters(workspace: Workspace) -> None:
    path = yaml_of(workspace, "below")
    runs = [workspace.train(yaml_of(workspace), over=over, settings=EPOCH) for over in (str(path), path, [path])]
    below = workspace.store.find(runs[0].record.over[0].run)
    runs += [
        workspace.train(yaml_of(workspace), over=over, settings=EPOCH) for over in (below, below.name, below.folder)
    ]
    assert len({run.name for run in runs}) == 1
    assert [intermediate.task for intermediate in runs[0].record.over] == ["below"]


def test_development_limit_is_the_recipes_field_and_reaches_intermediates(workspace: Workspace) -> None:
    run = workspace.train(yaml_of(workspace), settings={"epochs": 1}, development_limit=3)
    assert run.name == workspace.train(yaml_of(workspace), settings={"epochs": 1, "development_examples": "3"}).name
    above = workspace.train(yaml_of(workspace), over=yaml_of(workspace, "below"), limit=8, development_limit=3)
    for record in (above.record, workspace.store.find(above.record.over[0].run).record):
        read = {source.split: source.examples for source in record.data}
        assert (record.limit, read["train"], read["validation"]) == (8, 8, 3)
    with pytest.raises(UsageError, match=r"^--development-limit and --set development_examples: found both, accepted"):
        workspace.train(yaml_of(workspace), settings={"development_examples": 3}, development_limit=3)


def test_tune_takes_what_train_takes(workspace: Workspace) -> None:
    options: dict[str, Any] = {"trials": 2, "backbone": workspace.backbone, "runs": workspace.store, "device": "cpu"}
    result = tune(
        yaml_of(workspace),
        search={"learning_rate": [1e-3, 1e-2]},
        settings=EPOCH,
        seeds=1,
        development_limit=3,
        **options,
    )
    assert [trial.settings for trial in result.trials] == [{"learning_rate": "0.001"}, {"learning_rate": "0.01"}]
    assert (result.recipe.epochs, result.recipe.development_examples) == (1, 3)
    assert [attempt.seed for attempt in result.best.attempts] == [1]
    for changed, message in (
        ({"seeds": "1"}, "--seed: found '1', accepted whole numbers from 0"),
        ({"trials": "2"}, "--trials: found '2', accepted a whole number of at least 0"),
        ({"method": "loar"}, "--method: found 'loar', accepted: "),
        ({"search": "learning_rate"}, "search: found 'learning_rate', accepted a mapping such as "),
    ):
        with pytest.raises(UsageError) as caught:
            tune(yaml_of(workspace), **{**options, **changed})
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"over": 5}, "--over: found 5, accepted runs and tasks: names, paths, Run or Task objects"),
        ({"over": [None]}, "--over: found null, accepted runs and tasks: "),
        ({"limit": "5"}, "--limit: found '5', accepted a whole number of at least 0"),
        ({"development_limit": 0}, "--development-limit: found 0, accepted a whole number of at least 1"),
        ({"seed": 1.5}, "--seed: found 1.5, accepted a whole number from 0 to 4294967295"),
        ({"method": 5}, "--method: found 5, accepted text"),
        ({"device": 0}, "--device: found 0, accepted text"),
        ({"keep": "some"}, "keep: found 'some', accepted: scores, adapters, all"),
        ({"backbone": 5}, "--backbone: found 5, accepted a Hub id, a folder, or a Backbone"),
        ({"execution": {}}, "--execution: found {}, accepted an Execution"),
        ({"runs": 5}, "--runs: found 5, accepted a folder, or a RunStore"),
        ({"out": 5}, "--out: found 5, accepted a path"),
        ({"mirror": 5}, "--hub-mirror: found 5, accepted a path"),
        ({"task": 5}, "task: found 5, accepted tasks: names, paths or Task objects"),
        ({"task": []}, "task: found none, accepted one or more"),
        ({"backbone": "embeded"}, "backbone 'embeded': found no such folder (did you mean 'embedded'?), accepted "),
    ],
)
def test_a_wrong_argument_is_named(workspace: Workspace, request_: dict[str, Any], message: str) -> None:
    options = {
        "task": yaml_of(workspace),
        "backbone": workspace.backbone,
        "runs": workspace.store,
        "device": "cpu",
        **request_,
    }
    with pytest.raises(UsageError) as caught:
        train(options.pop("task"), **options)
    assert str(caught.value).startswith(message)


def test_folders_are_tried_before_anything_trains(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(*arguments: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(api, "execute", trained)
    (workspace.folder / "file").touch()
    file = workspace.folder / "file"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"runs": file}, f"--runs: found {file}, which is no folder"),
        ({"runs": file / "runs"}, f"--runs: found {file}/runs, of which {file} is no folder"),
        ({"out": file}, f"--out: found {file}, which is no folder"),
        ({"out": workspace.folder}, f"--out {workspace.folder}: the folder is not empty and holds no run"),
        ({"execution": Execution(tensorboard=file)}, f"--tensorboard: found {file}, which is no folder"),
    ]
    for options, message in wrong:
        asked = {"backbone": workspace.backbone, "runs": workspace.store, "device": "cpu", "seed": 99, **options}
        with pytest.raises(UsageError) as caught:
            train(yaml_of(workspace), **asked)
        assert str(caught.value).startswith(message)
    monkeypatch.setenv("ADAPTER_STILTS_RUNS", str(file / "runs"))
    with pytest.raises(UsageError, match=r"^\$ADAPTER_STILTS_RUNS: found "):
        train(yaml_of(workspace), backbone=workspace.backbone, device="cpu", seed=99)


def test_home_folders_of_runs_copies_and_logs(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(workspace.folder))
    monkeypatch.chdir(workspace.folder)
    monkeypatch.setenv("ADAPTER_STILTS_RUNS", "~/of_variable")
    assert RunStore().folder == workspace.folder / "of_variable"
    assert Execution(tensorboard=Path("~/logs")).tensorboard == workspace.folder / "logs"
    run = train("~/target/target.yaml", backbone="~/tiny", runs="~/own", out="~/copy", device="cpu", settings=EPOCH)
    assert run.folder.parent == workspace.folder / "own"
    assert (workspace.folder / "copy" / "record.json").is_file()
    assert RunStore("~/own").find("~/copy").name == run.name
    assert not (workspace.folder / "~").exists()
