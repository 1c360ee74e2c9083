"""Files and folders appear whole, on the disk first, and what kills leave of them is swept."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapter_stilts import files, residue
from adapter_stilts.files import atomic_file, atomic_folder, atomic_write_text, read_regular, replaced_folder
from adapter_stilts.owners import owner_of_json, owner_of_partial, partial_name
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
    with atomic_folder(tmp_path / "ours") as ours:
        residue._looked.clear()
        (tmp_path / ".others.partial").touch()  # not a name that we give
        sweep(tmp_path)
        assert names(tmp_path) == sorted([ours.name, ".others.partial"])


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
    assert owner.is_here
    assert owner.lives
    text = partial_name("run").split("-")
    text[-2] = str(int(text[-2]) - 360_000)  # an hour before, in hundredths of a second
    (tmp_path / "-".join(text)).mkdir()
    sweep(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [[], "x", {"machine": 1, "pid": 2, "started": 3}, {"machine": "a", "pid": "abc", "started": 3.0}]
    + [{"machine": "a", "pid": pid, "started": 3.0} for pid in (-1, 0, True, 1.5)]
    + [{"machine": "a", "pid": 1, "started": own} for own in ("x", None, float("nan"), float("inf"), True)],
)
def test_nonsense_names_no_owner(content: object) -> None:
    assert owner_of_json(content) is None


def test_a_huge_process_number_is_nobodys() -> None:
    owner = owner_of_json({"machine": "a", "pid": 10**30, "started": 3.0})
    assert owner is not None
    assert not owner.lives


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
