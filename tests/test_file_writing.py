"""Files and folders appear whole, on the disk first, and what kills leave of them is swept."""

import errno
import multiprocessing
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file

from adapter_stilts import files, owners, residue
from adapter_stilts.errors import StiltsError
from adapter_stilts.files import atomic_file, atomic_folder, atomic_write_text, read_regular, replaced_folder
from adapter_stilts.owners import machine, myself, owner_of_json, owner_of_partial, partial_name, replaced_name
from adapter_stilts.residue import sweep


def in_a_dead_process(work: Callable[[], None]) -> None:
    """What a process leaves that ends as if it were killed."""

    def killed() -> None:
        work()
        os._exit(9)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == 9


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_dead_process_left_goes_at_once_and_a_living_ones_stays(tmp_path: Path) -> None:
    held = []

    def half() -> None:
        (tmp_path / partial_name("run")).mkdir()
        (tmp_path / partial_name("cache.arrow")).write_text("half")
        held.append(atomic_folder(tmp_path / "folder"))
        held[0].__enter__()

    in_a_dead_process(half)
    assert len(names(tmp_path)) == 3
    with atomic_folder(tmp_path / "ours") as folder:
        residue._looked.clear()
        (tmp_path / ".others.partial").touch()  # not a name that we give
        sweep(tmp_path)
        assert names(tmp_path) == sorted([folder.name, ".others.partial"])


def test_the_next_writer_sweeps_its_folder(tmp_path: Path) -> None:
    in_a_dead_process(lambda: (tmp_path / partial_name("table.md")).write_text("half") and None)
    atomic_write_text(tmp_path / "other.md", "whole")
    assert names(tmp_path) == ["other.md"]


@pytest.mark.parametrize(
    "name",
    [f".run.{'0' * 8}-1-100-{'a' * 8}.partial", f".run.{'0' * 32}.partial", "tmpab12_z9q.part"],
    ids=["another machine", "without an owner", "an older cache file"],
)
def test_what_cannot_be_seen_to_be_dead_goes_after_an_hour(tmp_path: Path, name: str) -> None:
    left = tmp_path / name
    left.mkdir()
    (left / "weights").write_text("half")
    for age, stays in ((residue.LEFT_AFTER - 60, True), (residue.LEFT_AFTER + 60, False)):
        for path in (left / "weights", left):
            os.utime(path, (time.time() - age,) * 2)
        sweep(tmp_path)
        assert left.exists() is stays


def test_a_number_that_went_to_another_process_is_not_its_writer(tmp_path: Path) -> None:
    owner = owner_of_partial(partial_name("run"))
    assert owner is not None
    assert owner.lives
    text = partial_name("run").split("-")
    text[-2] = f"t{int(text[-2][1:]) - 1}"  # a hundredth of a second before
    (tmp_path / "-".join(text)).mkdir()
    sweep(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [[], "x", {"machine": 1, "pid": 2, "started": 3}, {"machine": "a", "pid": "abc", "started": 3.0}]
    + [{"machine": "a", "pid": pid, "started": 3.0} for pid in (-1, 0, True, 1.5)]
    + [
        {"machine": "a", "pid": 1, "started": started}
        for started in ("x", None, float("nan"), float("inf"), True, 10**400)
    ]
    + [{"machine": "a", "pid": 1, "ticks": ticks, "started": 3.0} for ticks in ("x", -1, 1.5, True)],
)
def test_nonsense_names_no_owner(content: object) -> None:
    assert owner_of_json(content) is None


def test_a_huge_process_number_is_nobodys() -> None:
    owner = owner_of_json({"machine": machine(), "pid": 10**30, "ticks": 3})
    assert owner is not None
    assert owner.lives is False


def test_whether_another_machines_process_lives_cannot_be_seen() -> None:
    owner = owner_of_json(myself().as_json() | {"machine": "elsewhere"})
    assert owner is not None
    assert owner.lives is None


def test_a_clock_that_is_set_kills_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil's times of creation move with the clock."""
    (tmp_path / partial_name("run")).mkdir()
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3_600)
    owners._process.cache_clear()
    sweep(tmp_path)
    assert len(names(tmp_path)) == 1


@pytest.mark.parametrize("hidden", [FileNotFoundError, PermissionError])
def test_a_process_that_proc_hides_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: type[OSError]
) -> None:
    """As another user's where /proc is mounted with hidepid; one whose number is nobody's is dead all the same."""
    owner, stat = myself(), owners._stat

    def hiding(pid: int | str) -> tuple[str, int]:
        if pid == other.pid:
            raise hidden
        return stat(pid)

    other = replace(owner, pid=os.getppid())
    monkeypatch.setattr(owners, "_stat", hiding)
    assert other.lives is None
    (left := tmp_path / re.sub(rf"-{owner.pid}-", f"-{other.pid}-", partial_name("run"))).mkdir()
    sweep(tmp_path)
    assert left.exists()
    monkeypatch.setattr(os, "kill", refuse_to_kill)
    assert other.lives is None
    monkeypatch.undo()
    assert replace(owner, pid=ended_process()).lives is False


def refuse_to_kill(pid: int, signal: int) -> None:
    raise PermissionError


def ended_process() -> int:
    process = multiprocessing.get_context("fork").Process()
    process.start()
    process.join()
    assert process.pid is not None
    return process.pid


def test_names_and_claims_of_a_version_before_ticks_go_by_age(tmp_path: Path) -> None:
    parts = partial_name("run").split("-")
    parts[-2] = "100"
    owner = owner_of_partial("-".join(parts))
    assert owner is not None
    assert (owner.started, owner.lives) == (1.0, None)
    owner = owner_of_json({"machine": machine(), "pid": os.getpid(), "started": 3.0})
    assert owner is not None
    assert owner.lives is None


def test_without_proc_starts_are_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_proc(pid: int | str) -> tuple[str, int]:
        raise FileNotFoundError

    monkeypatch.setattr(owners, "_stat", no_proc)
    owners._process.cache_clear()
    try:
        owner = myself()
        assert owner.started == psutil.Process().create_time()
        assert owner_of_partial(partial_name("run")) is not None
        assert owner.lives is True
        assert not owner.is_stopped
        assert replace(owner, started=owner.started - 60).lives is False
        assert replace(owner, ticks=3).lives is None
    finally:
        owners._process.cache_clear()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("where", ["dead", "elsewhere"])
def test_what_was_moved_aside_is_put_back_or_goes(tmp_path: Path, where: str, again: bool) -> None:
    parts = replaced_name("table").split("-")
    parts[-2] = "t0"
    if where == "elsewhere":
        parts[0] = f".table.{'0' * 8}"
    (aside := tmp_path / "-".join(parts)).mkdir()
    (aside / "old").touch()
    if again:
        (tmp_path / "table").mkdir()
        (tmp_path / "table" / "new").touch()
    if where == "elsewhere":
        sweep(tmp_path)
        assert aside.exists()
        for path in (aside / "old", aside):
            os.utime(path, (time.time() - residue.LEFT_AFTER - 60,) * 2)
    sweep(tmp_path)
    assert names(tmp_path) == ["table"]
    assert names(tmp_path / "table") == (["new"] if again else ["old"])


def test_a_full_disk_in_a_copy_names_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(StiltsError) as caught, replaced_folder(tmp_path / "copy") as beside:
        raise shutil.Error([("run/record.json", str(beside / "record.json"), f"[Errno {errno.ENOSPC}] No space left")])
    assert str(caught.value) == f"{tmp_path / 'copy'}: cannot be written (No space left on device)"
    with pytest.raises(shutil.Error), replaced_folder(tmp_path / "copy"):
        raise shutil.Error([("a", "b", "[Errno 2] No such file")])


def test_safetensors_files_have_the_mode_of_other_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        (tmp_path / "bundle").mkdir()
        save_file({"a": torch.zeros(1)}, tmp_path / "bundle" / "weights")
        (tmp_path / "bundle" / "weights").chmod(0o600)
        files.open_to_readers(tmp_path / "bundle")
    finally:
        os.umask(before)
    assert (tmp_path / "bundle" / "weights").stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_replaced_folder_is_never_absent_where_names_can_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").touch()
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    with replaced_folder(target) as beside:
        (beside / "new").touch()
        assert names(target) == ["old"]
    assert (names(tmp_path), names(target)) == (["run"], ["new"])


def test_everything_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    def renamed(source: Path, target: Path) -> None:
        events.append(f"name {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    with atomic_folder(tmp_path / "run") as beside:
        atomic_write_text(beside / "record.json", "{}")  # goes to the disk with its folder, once
        (beside / "bundle").mkdir()
        (beside / "bundle" / "weights").touch()
    assert events == [
        "name record.json",
        "sync weights",
        "sync bundle",
        "sync record.json",
        f"sync {beside.name}",
        "name run",
        f"sync {tmp_path.name}",
    ]
    events.clear()
    with atomic_file(tmp_path / "table") as partial:
        partial.touch()
    assert events == [f"sync {partial.name}", "name table", f"sync {tmp_path.name}"]


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path / "fifo", "pipe"), (tmp_path, "folder")):
        with pytest.raises(OSError, match=f"found a {kind}, accepted a regular file"):
            read_regular(path)
    (tmp_path / "file").write_bytes(b"123")
    assert read_regular(tmp_path / "file", most=3) == b"123"
    with pytest.raises(OSError, match="found 3 bytes, accepted up to 2"):
        read_regular(tmp_path / "file", most=2)
