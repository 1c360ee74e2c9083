"""What kills leave in a store: never read as a result, and put right by the next command."""

import errno
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.records import write_run
from support.training import Workspace, english_task

from adapter_stilts import residue
from adapter_stilts.analysis.compare import compare_runs
from adapter_stilts.errors import StiltsError
from adapter_stilts.evaluation import zero_shot
from adapter_stilts.evaluation.predict import predict_file
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.owners import partial_name
from adapter_stilts.runs import store as storing
from adapter_stilts.runs.claims import Claims
from adapter_stilts.runs.record import RECORD, Record, read_record
from adapter_stilts.runs.store import EVALUATIONS, TRAINED_ON, Run, RunStore, evaluation_folders, keep_of
from adapter_stilts.runs.tidy import CHECKPOINTS, tidy
from adapter_stilts.runs.update import update_record

RIGHT = {"en": 80, "de": 60}


@pytest.fixture(autouse=True)
def every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residue, "LOOK_EVERY", -1.0)


def dead_name(name: str) -> str:
    """As `partial_name`, of a process that was never there."""
    parts = partial_name(name).split("-")
    parts[-2] = "t0"
    return "-".join(parts)


def test_a_half_written_evaluation_is_not_compared_and_goes(tmp_path: Path) -> None:
    run = write_run(tmp_path, "bottleneck", "none", RIGHT)
    store, folder = RunStore(tmp_path), run.folder / "evaluations"
    (of_old := folder / f".test-1.{'0' * 32}.partial").mkdir()
    (dead := folder / dead_name("test-2")).mkdir()
    assert [folder.name for folder in evaluation_folders(run)] == ["test"]
    assert len(compare_runs(store).tables_) == 1
    assert not dead.exists()
    assert of_old.exists()  # nobody can say that its writer is dead


def test_everything_that_a_kill_leaves_is_swept(tmp_path: Path) -> None:
    run = write_run(tmp_path, "bottleneck", "none", RIGHT)
    (run.folder / "bundle").mkdir()
    folders = [
        tmp_path / dead_name("other"),
        run.folder / dead_name("bundle"),
        run.folder / ".bundle-dropped",
        run.folder / "evaluations" / dead_name("test"),
        tmp_path / CHECKPOINTS / run.name,
        tmp_path / ".failures" / dead_name("x.txt"),
        tmp_path / ".claims" / dead_name("clock"),
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    (tmp_path / ".claims" / "run.json").write_text('{"machine": 3}')
    os.utime(tmp_path / ".claims" / "run.json", (0, 0))
    (unfinished := tmp_path / CHECKPOINTS / "unfinished" / "step-1").mkdir(parents=True)
    tidy(RunStore(tmp_path))
    assert [folder for folder in folders if folder.exists()] == []
    assert list((tmp_path / ".claims").glob("*.json")) == []
    assert unfinished.exists()


def test_a_run_that_was_being_replaced_is_put_back(tmp_path: Path) -> None:
    """As an earlier version left it: absent between two renames, or there again without its evaluations."""
    run = write_run(tmp_path, "bottleneck", "none", RIGHT)
    update_record(
        run.folder, lambda record: record.model_copy(update={"scores": {"test": {"mean": {"accuracy": 1.0}}}})
    )
    before = read_record(run.folder)
    for again in (False, True):
        run.folder.rename(tmp_path / f".{run.name}-replaced")
        if again:
            shutil.copytree(tmp_path / f".{run.name}-replaced", run.folder)
            shutil.rmtree(run.folder / "evaluations")
            update_record(run.folder, lambda record: record.model_copy(update={"scores": {}}))
        tidy(RunStore(tmp_path))
        assert [folder.name for folder in evaluation_folders(run)] == ["test"]
        assert read_record(run.folder) == before
        assert [path.name for path in tmp_path.iterdir()] == [run.name]


def test_folders_that_only_look_like_ours_stay(tmp_path: Path) -> None:
    run = write_run(tmp_path, "bottleneck", "none", RIGHT)
    foreign = [".foo.replaced", ".-replaced", ".backup.2024.replaced", ".x-replaced", ".a.b-replaced"]
    for name in foreign:
        (tmp_path / name).mkdir()
    shutil.copytree(run.folder, tmp_path / ".copy-replaced")
    tidy(RunStore(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*foreign, ".copy-replaced", run.name])


def test_an_evaluation_that_was_moved_aside_is_looked_after(tmp_path: Path) -> None:
    run = write_run(tmp_path, "bottleneck", "none", RIGHT)
    (folder,) = evaluation_folders(run)
    aside = folder.with_name(dead_name("test").replace(".partial", ".replaced"))
    for again in (False, True):
        folder.rename(aside)
        if again:
            shutil.copytree(aside, folder)
        tidy(RunStore(tmp_path))
        assert [path.name for path in (run.folder / EVALUATIONS).iterdir()] == ["test"]


@pytest.mark.parametrize(("written", "stays"), [(-1, False), (0, False), (1, True)])
def test_checkpoints_of_a_run_without_weights_go_unless_it_is_trained_again(
    tmp_path: Path, written: int, stays: bool
) -> None:
    """Those of a training for the weights are younger than the run, whatever its evaluations have written since."""
    run = write_run(tmp_path, "bottleneck", "none", RIGHT)
    (run.folder / TRAINED_ON).touch()
    (state := tmp_path / CHECKPOINTS / run.name / "step-1" / "state.json").parent.mkdir(parents=True)
    state.touch()
    end = (run.folder / TRAINED_ON).stat().st_mtime_ns
    os.utime(state, ns=(end + written * 1_000_000,) * 2)
    os.utime(run.folder / RECORD, ns=(end + 10**9,) * 2)
    with Claims(tmp_path).hold(run.name):
        tidy(RunStore(tmp_path))
        assert state.exists()
    tidy(RunStore(tmp_path))
    assert state.exists() is stays


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_record_that_is_no_file_is_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "run").mkdir()
    (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / "run" / RECORD)
    for look in (lambda: RunStore(tmp_path).get("run"), lambda: compare_runs(RunStore(tmp_path))):
        with pytest.raises(StiltsError, match=rf"run/record.json: .*found a {kind}, accepted a regular file\)?$"):
            look()


# --- two at once ------------------------------------------------------------------------------------------------------


def _evaluate_three_times(store: Path, run: str, results: Any) -> None:
    """The same evaluation by three processes at once; a fresh process calls this, as forks of one with threads hang."""
    context = multiprocessing.get_context("fork")
    barrier, publish = context.Barrier(3), storing.publish

    def together(beside: Path, folder: Path) -> None:
        barrier.wait(60)  # none is there when any of them is done
        publish(beside, folder)

    def score() -> None:
        storing.publish = together
        results.put(evaluate(run, runs=store, device="cpu").model_dump())

    processes = [context.Process(target=score) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    results.put([process.exitcode for process in processes])


@pytest.mark.slow
def test_the_same_evaluation_by_three_processes_ends_well_in_all(workspace: Workspace) -> None:
    run = workspace.train(english_task(workspace.folder / "data"))
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_evaluate_three_times, args=(workspace.store.folder, run.name, results))
    process.start()
    scores = [results.get(timeout=120) for _ in range(3)]
    assert results.get(timeout=60) == [0, 0, 0]
    process.join()
    assert scores[0] == scores[1] == scores[2]
    assert len(list((run.folder / "evaluations").iterdir())) == 1


def test_an_evaluation_without_scores_gives_way(workspace: Workspace) -> None:
    run = workspace.train(english_task(workspace.folder / "data"))
    scores = evaluate(run, runs=workspace.store, device="cpu")
    (folder,) = evaluation_folders(run)
    (folder / "scores.json").unlink()
    assert evaluate(run, runs=workspace.store, device="cpu") == scores
    assert evaluation_folders(run) == [folder]


def test_notes_that_many_add_to_one_record_are_all_kept(tmp_path: Path) -> None:
    run = write_run(tmp_path, "bottleneck", "none", RIGHT)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)

    def note(number: int) -> None:
        barrier.wait(20)
        for count in range(10):
            name = f"test-{number}-{count}"

            def change(record: Record, name: str = name) -> Record:
                return record.model_copy(update={"scores": {**record.scores, name: {}}})

            update_record(run.folder, change)

    processes = [context.Process(target=note, args=(number,)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(read_record(run.folder).scores.keys() - run.record.scores.keys()) == 40


def test_weights_that_another_process_needs_stay(workspace: Workspace) -> None:
    run = workspace.train(english_task(workspace.folder / "data"))
    with Claims(workspace.store.folder).need([run.name]) as needs:
        assert not keep_of(run, "scores")
        assert run.has_weights
        assert keep_of(run, "scores", needs)
    assert not run.has_weights


def test_weights_that_are_being_read_stay(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an evaluation, a prediction and a copy, while another process drops what it does not keep."""
    run = workspace.train(english_task(workspace.folder / "data"))
    (path := workspace.folder / "my.txt").write_text("a b\n")
    kept = []

    def dropping(work: Any) -> Any:
        def wrapped(*args: Any, **settings: Any) -> Any:
            kept.append(keep_of(run, "scores"))
            return work(*args, **settings)

        return wrapped

    monkeypatch.setattr(zero_shot, "load_bundle", dropping(zero_shot.load_bundle))
    monkeypatch.setattr(storing, "copy_tree", dropping(storing.copy_tree))
    evaluate(run.name, runs=workspace.store, device="cpu")
    predict_file(run, path, device="cpu")
    workspace.store.copy(run, workspace.folder / "copy")
    assert kept == [False] * 3
    assert (workspace.folder / "copy" / "bundle").is_dir()
    # A copy is in no store: nothing is written beside it.
    zero_shot.load_run(workspace.folder / "copy", runs=workspace.store)
    assert not (workspace.folder / ".claims").exists()
    assert keep_of(run, "scores")
    assert not run.has_weights


def test_a_store_that_may_only_be_read(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = workspace.train(english_task(workspace.folder / "data"))
    opened, rename = os.open, Path.rename

    def read_only(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *rest, **more)

    def no_rename(path: Path, target: Any) -> Path:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(Path, "rename", no_rename)
    assert zero_shot.load_run(run)[1].task == run.record.task.name
    with pytest.raises(StiltsError, match=f"^{workspace.store.folder}: cannot be written \\(Read-only file system\\)$"):
        keep_of(run, "scores")
    shutil.rmtree(workspace.store.folder / ".claims")
    with pytest.raises(StiltsError, match=f"^{run.folder}: cannot be written \\(Read-only file system\\)$"):
        keep_of(run, "scores")
    monkeypatch.setattr(Path, "rename", rename)


def test_what_a_run_holds_can_be_read_by_others(workspace: Workspace) -> None:
    run = workspace.train(english_task(workspace.folder / "data"))
    modes = {path.stat().st_mode & 0o777 for path in run.folder.rglob("*") if path.is_file()}
    assert modes == {(run.folder / RECORD).stat().st_mode & 0o777}


def test_a_run_trained_again_for_its_weights_is_there_all_the_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before any of its renames it is a whole run, with its scores; an evaluation that comes meanwhile stays."""
    task = english_task(workspace.folder / "data")
    run = workspace.train(task)
    evaluate(run, runs=workspace.store, device="cpu")
    kept = workspace.store.find(run.name)
    keep_of(kept, "scores")
    replace, killed = os.replace, 0

    class Killed(BaseException):
        pass

    for operation in range(1, 20):
        count = 0

        def counted(source: Any, target: Any, operation: int = operation) -> None:
            nonlocal count
            if run.folder in Path(target).parents:
                count += 1
                if count == operation:
                    raise Killed
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", counted)
            try:
                workspace.train(task)
                break
            except Killed:
                killed += 1
        stored = workspace.store.find(run.name)
        assert isinstance(stored, Run)
        assert stored.record.scores == kept.record.scores
        assert len(evaluation_folders(stored)) == 1
        assert not stored.has_weights
    assert killed == 3  # signatures, record, bundle
    assert workspace.store.find(run.name).has_weights
