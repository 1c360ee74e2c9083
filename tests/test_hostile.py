"""Folders from somebody else: refused in one line, or equal in result; nothing outside is written or read."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.fake_study import study_of
from support.hostile import (
    RUN_MUTATIONS,
    checkpoint_mutation,
    mirror_mutation,
    snapshot,
    training_checkpoint_mutation,
)
from support.training import Cut, Workspace, cut_after, english_task, make_workspace

from adapter_stilts.analysis.compare import compare_runs
from adapter_stilts.errors import StiltsError
from adapter_stilts.evaluation.predict import predict_file
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.report.content import make_report
from adapter_stilts.runs.store import Run, RunStore, evaluation_folders
from adapter_stilts.runs.tidy import CHECKPOINTS
from adapter_stilts.studies.grid import expand
from adapter_stilts.studies.plan import StudyRun
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import load_split
from adapter_stilts.training.api import train
from adapter_stilts.training.execution import Execution

CANARY = "the reader's own secret"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = make_workspace(tmp_path_factory.mktemp("hostile"), monkeypatch)
        outside = made.folder / "outside"
        outside.mkdir()
        (outside / "canary.json").write_text(json.dumps({"secret": CANARY}))
        monkeypatch.setattr(torch, "load", _never)
        yield made


def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("a pickle was opened")


@pytest.fixture(scope="module")
def runs(workspace: Workspace) -> dict[str, Run]:
    """A run of each way in which weights are kept, evaluated where that is quick."""
    task, quick = english_task(workspace.folder / "t", "t"), {"epochs": "1"}
    under = workspace.train(english_task(workspace.folder / "a", "a", shift=1), settings=quick)
    made = {
        "stack": workspace.train(task, over=[under], settings=quick),
        "lora": workspace.train(task, method="lora", settings=quick),
        "full": workspace.train(task, method="full", settings=quick),
    }
    for run in made.values():
        evaluate(run, runs=workspace.store, device="cpu")
    return made


def outcome(work: Callable[[], Any]) -> Any:
    """What the work gives, or the one line that it is refused with."""
    try:
        return work()
    except StiltsError as error:
        check_line(str(error))
        return error
    except OSError as error:
        check_line(str(error.filename))
        return error


def check_line(line: str) -> None:
    assert "\n" not in line
    assert line != "None"
    assert CANARY not in line


def uses_of(workspace: Workspace, store: RunStore, name: str, text: Path) -> dict[str, Callable[[], Any]]:
    """Everything that reads a run; each gives figures."""
    above = english_task(workspace.folder / "above", "above", shift=2)

    def over() -> Any:
        run = store.find(name)
        made = train(
            above,
            over=[run],
            method=run.record.method,
            backbone=workspace.backbone,
            runs=workspace.folder / "mine",
            device="cpu",
            settings={"epochs": "1"},
            limit=4,
        )
        figures = made.record.development
        shutil.rmtree(workspace.folder / "mine")
        return figures

    def report() -> Any:
        run = store.find(name)
        (evaluation,) = evaluation_folders(run)
        targets = f"targets: [{workspace.folder / 't' / 't.yaml'}]"
        study = study_of(workspace.folder, f"{targets}\nmethods: [bottleneck]\ncompositions: [none]\n")
        cell = next(expand(study))
        rows = make_report(study, [StudyRun(cell, name, run, evaluation)], store, resamples=0).rows
        return {row["language"]: (row["score"], row["sentences"], row["zero_shot"]) for row in rows}

    return {
        "report": report,
        "compare": lambda: [table.rows for table in compare_runs(store).tables_],
        "evaluate": lambda: evaluate(name, runs=store, device="cpu", limit=3).languages,
        "predict": lambda: predict_file(store.find(name), text, device="cpu"),
        "over": over,
    }


def attack(workspace: Workspace, runs: dict[str, Run], times: int, seed: int) -> tuple[int, int]:
    """Mutated runs used in one way each; how many were refused, and how many gave the whole run's result."""
    drawn, whole, refused = random.Random(seed), {}, 0
    text = workspace.folder / "text.txt"
    text.write_text("the dog is seven !\nand cats run\n")
    foreign = workspace.folder / "theirs"
    above = english_task(workspace.folder / "above", "above", shift=2)
    assert above.name == "above"
    for number in range(times):
        kind = drawn.choice(sorted(runs))
        use = drawn.choice(["compare", "evaluate", "predict", "over", "report"])
        shutil.rmtree(foreign, ignore_errors=True)
        store, run = RunStore(foreign), runs[kind]
        shutil.copytree(run.folder, foreign / run.name)
        work = uses_of(workspace, store, run.name, text)[use]
        if (kind, use) not in whole:
            whole[kind, use] = work()
            shutil.rmtree(foreign)
            shutil.copytree(run.folder, foreign / run.name)
        shutil.rmtree(foreign / run.name / "evaluations") if use == "evaluate" else None
        mutation = drawn.choice(RUN_MUTATIONS)
        mutation(foreign / run.name, drawn)
        before = snapshot(workspace.folder, foreign, workspace.folder / "mine", workspace.folder / "cache")
        result = outcome(work)
        shutil.rmtree(workspace.folder / "mine", ignore_errors=True)
        assert snapshot(workspace.folder, foreign, workspace.folder / "mine", workspace.folder / "cache") == before, (
            number
        )
        if isinstance(result, Exception):
            refused += 1
        else:
            assert _figures(result) == _figures(whole[kind, use]), (number, kind, use, mutation.__name__)
    return refused, times - refused


def _figures(result: Any) -> Any:
    """Scores alone: a record may say another licence or cost."""
    return (
        [[row.languages, row.mean, row.mean_zero_shot] for rows in result for row in rows]
        if isinstance(result, list)
        else result
    )


@pytest.mark.slow
def test_hostile_runs(workspace: Workspace, runs: dict[str, Run]) -> None:
    refused, equal = attack(workspace, runs, 40, seed=0)
    assert refused >= 15
    assert refused + equal == 40


@pytest.mark.slow
def test_five_hundred_hostile_runs(workspace: Workspace, runs: dict[str, Run]) -> None:
    refused, _ = attack(workspace, runs, 400, seed=1)
    assert refused > 150


def _load(folder: Path) -> Any:
    return load_model(load_backbone(str(folder)))


def attack_checkpoints(workspace: Workspace, times: int, seed: int) -> int:
    drawn, refused = random.Random(seed), 0
    for _ in range(times):
        folder = workspace.folder / "foreign"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(workspace.folder / "tiny", folder)
        checkpoint_mutation(folder, drawn)
        before = snapshot(workspace.folder, workspace.folder / "cache")
        result = outcome(partial(_load, folder))
        assert snapshot(workspace.folder, workspace.folder / "cache") == before
        if isinstance(result, Exception):
            refused += 1
        else:
            whole = load_model(workspace.backbone).state_dict()
            assert all(torch.equal(tensor, whole[name]) for name, tensor in result.state_dict().items())
    return refused


def test_hostile_checkpoints(workspace: Workspace) -> None:
    assert attack_checkpoints(workspace, 20, seed=0) > 8


@pytest.mark.slow
def test_a_hundred_hostile_checkpoints(workspace: Workspace) -> None:
    assert attack_checkpoints(workspace, 100, seed=1) > 40


# --- mirrors ----------------------------------------------------------------------------------------------------------


def _mirror(workspace: Workspace) -> Path:
    """A mirror with one repository, beside what is outside of it."""
    folder = workspace.folder / "mirror" / "some" / "data"
    for number in range(2):
        table = pa.table({"words": [["the", "dog"], ["seven"]], "tags": [["A", "B"], ["C"]]})
        (folder / "one").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "one" / f"train-{number}.parquet")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: one\n  data_files: one/*.parquet\n---\n")
    pq.write_table(pa.table({"words": [[CANARY]], "tags": [["A"]]}), workspace.folder / "outside" / "canary.parquet")
    return workspace.folder / "mirror"


def attack_mirrors(workspace: Workspace, times: int, seed: int) -> int:
    """Mutated repositories that are read; how many were refused."""
    drawn, refused, mirror = random.Random(seed), 0, _mirror(workspace)
    shutil.copytree(mirror, workspace.folder / "whole")
    data = "data:\n  dataset: some/data\n  columns: {tokens: words, labels: tags}\n  languages: {en: one}\n"
    english_task(workspace.folder / "t", "t")
    path = workspace.folder / "mirrored.yaml"
    path.write_text((workspace.folder / "t" / "t.yaml").read_text().split("data:")[0] + data)
    task = find_task(str(path))
    whole = load_split(task, "en", "train", mirror).columns
    for number in range(times):
        shutil.rmtree(mirror)
        shutil.copytree(workspace.folder / "whole", mirror)
        mirror_mutation(mirror / "some" / "data", drawn)
        before = snapshot(workspace.folder, mirror, workspace.folder / "cache")
        result = outcome(lambda: load_split(task, "en", "train", mirror).columns)
        assert snapshot(workspace.folder, mirror, workspace.folder / "cache") == before, number
        refused += isinstance(result, Exception)
        assert isinstance(result, Exception) or CANARY not in str(result), number
        # A file without checksum may say something else; it still says words with their labels.
        assert isinstance(result, Exception) or result.keys() == whole.keys(), number
    for folder in (mirror, workspace.folder / "whole"):
        shutil.rmtree(folder)
    return refused


def test_hostile_mirrors(workspace: Workspace) -> None:
    assert attack_mirrors(workspace, 60, seed=0) > 25


# --- checkpoints of training ------------------------------------------------------------------------------------------


def attack_training(workspace: Workspace, times: int, seed: int) -> tuple[int, int]:
    """Trainings that go on from mutated checkpoints; how many were refused, how many gave the whole run's scores."""
    drawn, refused, equal = random.Random(seed), 0, 0
    task, foreign = english_task(workspace.folder / "t", "t"), workspace.folder / "theirs"
    # After the first epoch, whose score a checkpoint holds.
    store, execution = RunStore(foreign), Execution(checkpoint_seconds=0)

    def go_on() -> Any:
        options: dict[str, Any] = {
            "backbone": workspace.backbone,
            "runs": store,
            "device": "cpu",
            "execution": execution,
        }
        record = train(task, **options).record
        return record.history, record.development, record.selected_epoch

    shutil.rmtree(foreign, ignore_errors=True)
    whole = go_on()
    shutil.rmtree(foreign)
    context = cut_after(4)
    with pytest.raises(Cut):
        go_on()
    context.undo()
    cut = workspace.folder / f"cut-{seed}"
    shutil.copytree(foreign, cut)
    for number in range(times):
        shutil.rmtree(foreign)
        shutil.copytree(cut, foreign)
        (folder,) = (foreign / CHECKPOINTS).iterdir()
        said = training_checkpoint_mutation(folder, drawn)
        before = snapshot(workspace.folder, foreign, workspace.folder / "cache")
        result = outcome(go_on)
        assert snapshot(workspace.folder, foreign, workspace.folder / "cache") == before, number
        refused += isinstance(result, Exception)
        equal += result == whole
        # Numbers that are sealed anew cannot be told from a training's own.
        assert isinstance(result, Exception) or result == whole or not said, number
    shutil.rmtree(foreign)
    return refused, equal


@pytest.mark.slow
def test_hostile_checkpoints_of_a_training(workspace: Workspace) -> None:
    refused, equal = attack_training(workspace, 25, seed=0)
    assert equal >= 12
    assert refused + equal >= 20


@pytest.mark.slow
def test_a_hundred_hostile_checkpoints_of_a_training(workspace: Workspace) -> None:
    refused, equal = attack_training(workspace, 100, seed=1)
    assert equal >= 60
    assert refused + equal >= 80


# --- one bit --------------------------------------------------------------------------------------------------------


def flip_everywhere(workspace: Workspace, run: Run, positions: int, seed: int, uses: list[str]) -> int:
    """One bit in each file of a run, at so many places a file; how many of the uses were refused."""
    drawn, refused = random.Random(seed), 0
    text = workspace.folder / "text.txt"
    text.write_text("the dog is seven !\nand cats run\n")
    flipped = workspace.folder / "flipped"
    store, folder = RunStore(flipped), flipped / run.name
    shutil.rmtree(flipped, ignore_errors=True)
    shutil.copytree(run.folder, folder)
    works = uses_of(workspace, store, run.name, text)
    whole = {use: works[use]() for use in uses}
    for path in sorted(file for file in run.folder.rglob("*") if file.is_file()):
        for _ in range(positions):
            shutil.rmtree(flipped)
            shutil.copytree(run.folder, folder)
            hurt = folder / path.relative_to(run.folder)
            content = bytearray(hurt.read_bytes())
            content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
            hurt.write_bytes(content)
            for use in uses:
                result = outcome(works[use])
                shutil.rmtree(workspace.folder / "mine", ignore_errors=True)
                refused += isinstance(result, Exception)
                if not isinstance(result, Exception):
                    assert result == whole[use], (hurt, use)
    return refused


def test_one_bit_flipped(workspace: Workspace, runs: dict[str, Run]) -> None:
    assert flip_everywhere(workspace, runs["stack"], 1, 0, ["compare", "predict", "report"]) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stack", "lora", "full"])
def test_one_bit_flipped_at_twenty_places(workspace: Workspace, runs: dict[str, Run], kind: str) -> None:
    assert flip_everywhere(workspace, runs[kind], 20, 1, ["compare", "report", "evaluate", "predict", "over"]) >= 100
