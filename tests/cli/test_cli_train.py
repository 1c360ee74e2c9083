"""`train` and `tune` as typed: several tasks, controls, compositions and methods; a recipe that is searched, written,
read back and used."""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from support.cli import command, failed, make_cli_workspace, on_tiny, succeeded, train_arguments, yaml_of
from support.curves import curves_in
from support.training import GERMAN, Workspace, draw_sentences, english_task, write_conllu, write_task

from adapter_stilts.cli import training
from adapter_stilts.engine.device import TRAINING_PRECISIONS
from adapter_stilts.errors import UsageError
from adapter_stilts.recipe_schema import RecipeFile, Search
from adapter_stilts.runs.record import Control, Record
from adapter_stilts.schema import Recipe, Task
from adapter_stilts.strict_yaml import load_yaml
from adapter_stilts.tasks import catalog
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.training.api import train
from adapter_stilts.training.execution import Execution


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_cli_workspace(tmp_path_factory.mktemp("cli_train"), monkeypatch)


def trained(workspace: Workspace, *arguments: Any, task: str = "tags") -> Record:
    """The record that `train --json` prints."""
    printed = json.loads(succeeded(*train_arguments(workspace, task), *arguments, "--json"))
    printed.pop("folder")
    return Record.model_validate_json(json.dumps(printed))


def over(workspace: Workspace, *controls: str) -> list[str]:
    """--over the task `other`, once for each of `@random`, `@shuffled` or nothing."""
    return [argument for control in controls for argument in ("--over", yaml_of(workspace, "other") + control)]


def parts(record: Record) -> dict[str, bool]:
    """Each part of the model, and whether it trained."""
    return {part.name: part.trains for part in record.parts}


def test_accepted_controls_are_all_there_are() -> None:
    assert get_args(Control) == training.CONTROLS


def test_accepted_ways_to_compute_are_all_there_are() -> None:
    assert training.PRECISIONS == TRAINING_PRECISIONS
    execution = get_type_hints(Execution)
    assert (get_args(execution["step"]), get_args(execution["compile"])) == (training.STEPS, training.COMPILE)


def test_several_tasks_share_an_adapter(workspace: Workspace) -> None:
    both = f"{yaml_of(workspace)}+{yaml_of(workspace, 'other')}"
    printed = succeeded("train", both, *on_tiny(workspace))
    name = printed.splitlines()[0].removeprefix("run: ")
    record = workspace.store.find(name).record
    first, second = (record.history[-1].scores[f"{task}.accuracy"] for task in ("tags", "other"))
    assert record.development == pytest.approx((first + second) / 2)
    assert (
        f"development accuracy: {record.development:.2f} (epoch 2, tags.accuracy {first:.2f}, "
        f"other.accuracy {second:.2f}, majority class {record.development_majority:.2f})\n"
    ) in printed
    assert printed.endswith(
        " part                    trains  tensors  parameters\n"
        " backbone                no           37      57,952\n"
        " adapter tags_and_other  yes           8         584\n"
        " head tags               yes           2          99\n"
        " head other              yes           2          99\n"
    )
    above = trained(workspace, "--over", both)
    assert [(intermediate.run, intermediate.task) for intermediate in above.over] == [(name, "tags+other")]
    assert parts(above) == {"backbone": False, "adapter tags_and_other": False, "adapter tags": True, "head tags": True}


def test_controls_underneath_and_of_the_run_itself(workspace: Workspace) -> None:
    arguments = [*train_arguments(workspace), *over(workspace, "@random", "@shuffled"), "--compose", "fuse"]
    lines = succeeded(*arguments, "--set", "fusion_null=false").splitlines()
    assert lines[2:4] == [
        "composition: fuse over other (random) + other (shuffled)",
        "variant: light fusion without null",
    ]
    record = workspace.store.find(lines[0].removeprefix("run: ")).record
    below = [workspace.store.find(intermediate.run).record for intermediate in record.over]
    assert [(record_below.control, len(record_below.history)) for record_below in below] == [
        ("random", 0),
        ("shuffled", 2),
    ]
    printed = succeeded(*train_arguments(workspace, "other"), "--control", "random")
    assert f"run: {below[0].name}\n" in printed
    assert f"control: random\ndevelopment accuracy: {below[0].development:.2f} (untrained)\n" in printed


def test_methods_and_compositions_reach_the_run(workspace: Workspace) -> None:
    houlsby = trained(workspace, "--method", "houlsby")
    assert (houlsby.method, houlsby.recipe.adapter, houlsby.variant) == ("bottleneck", "houlsby", "adapter=houlsby")
    # Two adapters a layer in place of one.
    assert [part.parameters for part in houlsby.parts] == [57952, 2 * 584, 99]
    merged = trained(
        workspace, *over(workspace, "", "@random"), "--compose", "merge", "--set", "merge_weights=0.75,0.25"
    )
    assert (merged.composition, merged.variant) == ("merge", "linear, then stack, weights 0.75/0.25")
    assert merged.recipe.merge_weights == (0.75, 0.25)
    settings = ["--set", "rank=2", "--set", "epochs=1", "--set", "targets=query"]
    lora = trained(workspace, "--method", "lora", *settings)
    assert (lora.recipe.rank, lora.recipe.targets) == (2, ("query",))
    # 2 layers x (32 x 2 + 2 x 32).
    assert (parts(lora)["adapter tags"], lora.parts[1].parameters) == (True, 256)


def test_tensorboard_logs_a_run_that_keeps_its_name(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = workspace.folder / "logs"
    record = trained(workspace, "--seed", 7, "--tensorboard", logs)
    assert trained(workspace, "--seed", 7).name == record.name
    losses = list(curves_in(logs / record.name)["train/loss"].values())
    epochs = [losses[:3], losses[3:]]
    assert [sum(losses_of_epoch) / 3 for losses_of_epoch in epochs] == pytest.approx(
        [epoch.loss for epoch in record.history]
    )
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    line = failed(2, *train_arguments(workspace), "--seed", 8, "--tensorboard", logs)
    assert line == "--tensorboard: TensorBoard is not installed; install it with: pip install tensorboard"


def test_match_tokens_is_for_intermediates(workspace: Workspace) -> None:
    record = trained(workspace, *over(workspace, ""), "--match-tokens", 60, "--limit", 10)
    below = workspace.store.find(record.over[0].run).record
    assert (below.match_tokens, below.limit, record.match_tokens, record.limit) == (60, None, None, 10)
    # Whole examples until there are so many pieces.
    read = next(source for source in below.data if source.split == "train")
    assert 60 <= read.tokens < 60 + 45
    assert 0 < read.examples < read.available == 24
    alone = trained(workspace, "--match-tokens", 60, task="other")
    assert alone.name == below.name


def test_precision_is_that_of_all_that_is_trained(workspace: Workspace) -> None:
    """bf16 rounds weights: the record says so, and neither run takes the place of the one in float32."""
    run = [
        trained(workspace, *over(workspace, ""), "--step", "unrecorded", *option)
        for option in ([], ["--precision", "bf16"])
    ]
    below = [workspace.store.find(record.over[0].run).record for record in run]
    assert [record.precision for record in (*run, *below)] == ["float32", "bf16"] * 2
    assert run[0].name != run[1].name
    assert run[1].history[-1].loss == pytest.approx(run[0].history[-1].loss, rel=0.02)
    assert run[1].history != run[0].history
    failure = failed(2, *train_arguments(workspace, "tags"), "--precision", "fp16")
    assert failure == "--precision: found 'fp16', accepted: float32, bf16"
    with pytest.raises(UsageError, match=f"^{failure}$"):
        train(yaml_of(workspace, "tags"), backbone="no/such", precision="fp16")


def test_languages_of_the_training_data(workspace: Workspace) -> None:
    folder = workspace.folder / "two"
    english_task(folder, "two")
    write_conllu(folder / "de-train.conllu", draw_sentences(GERMAN, 6, seed=9))
    write_task(
        folder,
        "two",
        languages="{en: {train: en-train.conllu, validation: en-dev.conllu, test: en-test.conllu}, "
        "de: {train: de-train.conllu}}",
    )
    record = trained(workspace, "--languages", "de, en", task="two")
    (read,) = [source for source in record.data if source.split == "train"]
    assert (record.languages, read.language, read.examples) == (("en", "de"), "en+de", 6 + 24)
    assert record.variant == "in en+de"


def tune_arguments(workspace: Workspace, task: str = "tags", *more: Any) -> list[Any]:
    return ["tune", yaml_of(workspace, task), *on_tiny(workspace), "--trials", 2, *more]


def fresh_task(workspace: Workspace, name: str) -> Task:
    """A task of its own, whose file a search may write into."""
    return english_task(workspace.folder / name, name, shift=2)


def test_tune_writes_a_recipe_that_train_uses(workspace: Workspace) -> None:
    task, backbone = fresh_task(workspace, "tuned"), str(workspace.folder / "tiny")
    before = task.path.read_text(encoding="utf-8")
    spaces = ["--search", "learning_rate=1e-3:1e-1", "--search", "reduction=2,8", "--set", "epochs=1"]
    arguments = tune_arguments(workspace, "tuned", "--method", "houlsby", *spaces)
    printed = json.loads(succeeded(*arguments, "--json"))
    assert list(printed) == ["task", "method", "backbone", "recipe", "trials", "best", "file", "recipes", "command"]
    assert (printed["task"], printed["method"], printed["backbone"]) == ("tuned", "bottleneck", backbone)
    # The ends of both spaces.
    assert [trial["settings"] for trial in printed["trials"]] == [
        {"learning_rate": "0.001", "reduction": "2"},
        {"learning_rate": "0.1", "reduction": "8"},
    ]
    records = [workspace.store.find(trial["attempts"][0]["run"]).record for trial in printed["trials"]]
    assert [trial["development"] for trial in printed["trials"]] == [record.development for record in records]
    best = max(records, key=lambda record: record.development)
    assert (printed["best"]["attempts"][0]["run"], printed["file"]) == (best.name, str(task.path))

    written = find_task(str(task.path)).recipes["bottleneck"]
    assert written == {"default": Recipe(learning_rate=1e-2, epochs=2, batch_examples=8), backbone: written[backbone]}
    assert written[backbone].model_dump(mode="json") == printed["recipe"]
    assert written[backbone].model_copy(update={"tuning": None}) == best.recipe
    assert (written[backbone].adapter, written[backbone].epochs) == ("houlsby", 1)
    assert f"seed 0: development accuracy {best.development:.1f}" in (written[backbone].tuning or "")
    assert task.path.read_text(encoding="utf-8") == before
    stored = load_yaml(task.path.with_name("tuned.recipes.yaml"), RecipeFile).recipes["bottleneck"][backbone]
    assert isinstance(stored.tuning, Search)
    assert [(trial.set, trial.development) for trial in stored.tuning.trials] == [
        ({"learning_rate": 0.001, "reduction": 2}, (round(records[0].development, 3),)),
        ({"learning_rate": 0.1, "reduction": 8}, (round(records[1].development, 3),)),
    ]
    # What repeats the search names no folder of this machine.
    assert stored.tuning.command == (
        "adapter-stilts tune tuned --method houlsby --backbone tiny --trials 2 --search learning_rate=1e-3:1e-1 "
        "--search reduction=2,8 --set epochs=1"
    )

    # The command that is printed trains the best trial's run, now with weights.
    assert not workspace.store.find(best.name).has_weights
    used = json.loads(succeeded(*shlex.split(printed["command"])[1:], "--device", "cpu", "--json"))
    assert (used["name"], used["development"]) == (best.name, best.development)
    assert workspace.store.find(best.name).has_weights


def test_tune_prints_its_trials_and_goes_on_where_it_stopped(workspace: Workspace) -> None:
    task = fresh_task(workspace, "printed")
    before = task.path.read_text(encoding="utf-8")
    arguments = tune_arguments(workspace, "printed", "--method", "ia3", "--limit", 8, "--set", "epochs=1")
    first = command(*arguments)
    runs = [run.record for run in workspace.store.runs() if run.record.task.name == "printed"]
    assert (first.exit_code, {record.limit for record in runs}, len(runs)) == (0, {8}, 2)
    # The package's recipe has 3e-3: from an eighth of it to four times it.
    shown = sorted(runs, key=lambda record: record.recipe.learning_rate)
    assert [record.recipe.learning_rate for record in shown] == [0.00038, 0.012]
    best = 0 if shown[0].development >= shown[1].development else 1
    rows = [line.split() for line in first.stdout.splitlines()[:3]]
    assert rows[0] == ["trial", "learning_rate", "development", "accuracy", "seconds"]
    for number, record in enumerate(shown):
        cells = [f"{record.recipe.learning_rate:.2g}", f"{record.development:.2f}", f"{record.cost.seconds:.1f}"]
        assert rows[number + 1] == [str(number + 1), *cells, *(["best"] if number == best else [])]
    tuning = find_task(str(task.path)).recipes["ia3"][str(workspace.folder / "tiny")].tuning
    backbone = workspace.folder / "tiny"
    assert first.stdout.splitlines()[3:] == [
        "",
        f"tuning: {tuning}",
        f"recipe: {task.path.with_name('printed.recipes.yaml')}, recipes: ia3: {backbone}",
        f"use: adapter-stilts train {task.path} --method ia3 --backbone {backbone}",
    ]
    assert task.path.read_text(encoding="utf-8") == before
    # Else the search would be around the recipe just found.
    task.path.with_name("printed.recipes.yaml").unlink()
    again = command(*arguments)
    assert again.stderr.count("done before") == 2
    assert again.stdout.splitlines()[:3] == first.stdout.splitlines()[:3]


def test_recipes_of_a_shipped_task_gather_in_a_copy(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = fresh_task(workspace, "shipped").path
    text = shipped.read_text(encoding="utf-8").replace("en-", f"{shipped.parent}/en-")
    shipped.write_text(text, encoding="utf-8")
    monkeypatch.setattr(catalog, "_shipped_files", lambda: iter([shipped]))
    monkeypatch.chdir(tmp_path)
    backbone = str(workspace.folder / "tiny")
    for method in ("head", "bottleneck"):
        arguments = ["tune", "shipped", "--method", method, "--trials", 1, "--set", "epochs=1", *on_tiny(workspace)]
        printed = json.loads(succeeded(*arguments, "--json"))
        assert (printed["file"], printed["command"].split()[2]) == ("shipped.yaml", "shipped.yaml")
    assert shipped.read_text(encoding="utf-8") == text
    recipes = find_task("shipped.yaml").recipes
    assert {method: sorted(backbones) for method, backbones in recipes.items()} == {
        "bottleneck": sorted([backbone, "default"]),
        "full": ["default"],
        "head": [backbone],
    }
    # One trial lies in the middle of the space: sqrt(1/8 x 4) of the rate that was there.
    assert (recipes["bottleneck"][backbone].learning_rate, recipes["head"][backbone].learning_rate) == (0.0071, 0.00071)
    # What stands there must be the same task.
    other = Path("shipped.yaml").read_text(encoding="utf-8").replace("version: 1", "version: 2")
    Path("shipped.yaml").write_text(other, encoding="utf-8")
    arguments[3] = "full"
    accepted = "accepted a new YAML file, or one of the same task shipped"
    assert failed(2, *arguments) == f"--out: found in shipped.yaml a task of another version, {accepted}"
    blocked = "shipped.yaml/new.yaml"
    message = failed(2, *arguments, "--out", blocked)
    assert message == f"--out: found {tmp_path}/shipped.yaml, which is no folder, accepted a folder to write to"


def test_a_file_that_cannot_be_written_is_refused_before_training(workspace: Workspace, tmp_path: Path) -> None:
    task = fresh_task(workspace, "refused")
    before = task.path.read_text(encoding="utf-8")
    accepted = "accepted a new YAML file, or one of the same task refused"
    for out, message in (
        (tmp_path, f"--out: found the folder {tmp_path}, {accepted}"),
        (task.path.parent / "en-dev.conllu", "--out: found a file that is no task ("),
        (yaml_of(workspace), f"--out: found in {yaml_of(workspace)} a task of another name, {accepted}"),
        (
            tmp_path / "copy.yaml",
            f"--out: found {tmp_path / 'copy.yaml'}, accepted a file in {task.path.parent}: data.",
        ),
    ):
        options = ["--out", out, "--runs", tmp_path / "runs"]
        assert failed(2, *tune_arguments(workspace, "refused", *options)).startswith(message)
    beside = task.path.with_name("copy.yaml")
    backbone = workspace.folder / "tiny"
    beside.write_text(before.replace("bottleneck: {", f"bottleneck: {{{backbone}: {{epochs: 3}}, ", 1))
    message = failed(2, *tune_arguments(workspace, "refused", "--out", beside, "--runs", tmp_path / "runs"))
    assert message == (
        f"{beside}:15: recipes.bottleneck.{backbone}: found a recipe, accepted none where `tune` writes one "
        f"({task.path.parent}/copy.recipes.yaml): remove it here first"
    )
    assert not (tmp_path / "runs").exists()
    assert list(tmp_path.iterdir()) == []
    assert (task.path.read_text(encoding="utf-8"), len(list(task.path.parent.iterdir()))) == (before, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--search", "rank"], "--search rank: found no '=', accepted KEY=LOW:HIGH or KEY=A,B,C"),
        (["--search", "rate=1:2"], "--search rate: found an unknown key, accepted learning_rate, epochs,"),
        (["--search", "rank=4,8"], "--search rank: decides nothing under bottleneck none, accepted with lora, dora"),
        (["--search", "epochs=1,0"], "--search epochs: found 0, accepted greater than or equal to 1"),
        (["--search", "layers=0,2"], "--search layers: found 2, accepted layers 0 to 1 of "),
        (
            ["--search", "learning_rate=0:1"],
            "--search learning_rate: found '0:1', accepted: LOW:HIGH with 0 < LOW < HIGH, or A,B,C",
        ),
        (["--method", "prefix"], "--method: found 'prefix', accepted: bottleneck, lora, dora, ia3, full, head,"),
    ],
)
def test_bad_options_of_tune(workspace: Workspace, tmp_path: Path, options: list[str], message: str) -> None:
    before = Path(yaml_of(workspace)).read_text(encoding="utf-8")
    assert failed(2, *tune_arguments(workspace, "tags", "--runs", tmp_path / "runs", *options)).startswith(message)
    assert not (tmp_path / "runs").exists()
    assert Path(yaml_of(workspace)).read_text(encoding="utf-8") == before
    assert command(*tune_arguments(workspace, "tags", "--trials", 0)).exit_code == 2


def test_trials_that_diverge_count_as_nothing(workspace: Workspace) -> None:
    task = fresh_task(workspace, "diverging")
    before = task.path.read_text(encoding="utf-8")
    printed = json.loads(
        succeeded(*tune_arguments(workspace, "diverging", "--search", "learning_rate=1e30,1e-2"), "--json")
    )
    lost, scored = printed["trials"]
    assert (lost["development"], lost["attempts"][0]["run"], scored["development"] > 0) == (0.0, "", True)
    assert (printed["best"], printed["recipe"]["learning_rate"]) == (scored, 1e-2)
    recipes = task.path.with_name("diverging.recipes.yaml").read_bytes()
    result = command(*tune_arguments(workspace, "diverging", "--search", "learning_rate=1e29,1e30"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == (
        "diverging: found no finite loss in 2 trials; search lower learning rates"
    )
    assert "Traceback" not in result.stderr
    assert task.path.read_text(encoding="utf-8") == before
    assert task.path.with_name("diverging.recipes.yaml").read_bytes() == recipes
