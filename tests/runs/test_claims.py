"""Claims: one process a run, and what becomes of a dead one's."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import psutil
import pytest

from adapter_stilts.owners import machine
from adapter_stilts.runs import claims
from adapter_stilts.runs.claims import Claims


def write_claim(store: Path, silent: float = 0.0, **changes: object) -> Path:
    """Somebody's claim on `run`, last touched so many seconds ago."""
    path = store / ".claims" / "run.json"
    path.parent.mkdir(exist_ok=True)
    owner = {"machine": machine(), "pid": os.getpid(), "started": psutil.Process().create_time(), "token": "theirs"}
    path.write_text(json.dumps(owner | changes))
    os.utime(path, (time.time() - silent,) * 2)
    return path


def taken(store: Path) -> bool:
    with Claims(store).hold("run") as ours:
        return not ours


def test_a_claim_is_held_by_one_and_released(tmp_path: Path) -> None:
    one, other = Claims(tmp_path), Claims(tmp_path)
    with one.hold("run") as ours:
        assert ours
        assert one.held("run")
        with other.hold("run") as theirs:
            assert not theirs
        assert one.held("run")
        with other.hold("another") as theirs:
            assert theirs
    assert not one.held("run")
    assert not taken(tmp_path)
    assert [path.name for path in (tmp_path / ".claims").iterdir()] == [".lock"]


def test_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Claims(tmp_path).hold("run"):
        raise KeyError
    assert not taken(tmp_path)


def test_a_dead_process_of_this_machine_loses_its_claim_at_once(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process()
    process.start()
    process.join()
    assert process.pid is not None
    write_claim(tmp_path, pid=process.pid)
    assert not taken(tmp_path)


def test_a_process_with_the_number_of_a_dead_one_is_not_it(tmp_path: Path) -> None:
    own = psutil.Process().create_time()
    write_claim(tmp_path, started=own - 3_600)
    assert not taken(tmp_path)
    write_claim(tmp_path, started=own)
    assert taken(tmp_path)


@pytest.mark.parametrize(("silent", "expected"), [(claims.TIMEOUT - 30, True), (claims.TIMEOUT + 30, False)])
def test_a_process_elsewhere_is_believed_dead_after_the_timeout(tmp_path: Path, silent: float, expected: bool) -> None:
    """A machine that was started anew is another one: its process numbers mean others."""
    write_claim(tmp_path, silent, machine="elsewhere", pid=1)
    assert taken(tmp_path) is expected


@pytest.mark.parametrize(("silent", "expected"), [(0.0, True), (claims.UNWRITTEN_TIMEOUT + 30, False)])
def test_a_claim_without_an_owner_is_one_that_is_being_written_or_was_left(
    tmp_path: Path, silent: float, expected: bool
) -> None:
    path = write_claim(tmp_path)
    path.write_text("")
    os.utime(path, (time.time() - silent,) * 2)
    assert taken(tmp_path) is expected


def test_clear_removes_dead_claims_alone(tmp_path: Path) -> None:
    path = write_claim(tmp_path)
    Claims(tmp_path).clear()
    assert path.exists()
    write_claim(tmp_path, started=0.0)
    Claims(tmp_path).clear()
    assert not path.exists()


def test_a_claim_is_touched_while_it_is_held_and_never_anothers(tmp_path: Path) -> None:
    path = tmp_path / ".claims" / "run.json"
    with Claims(tmp_path, heartbeat=0.01).hold("run"):
        os.utime(path, (0, 0))
        for _ in range(500):
            if path.stat().st_mtime > 0:
                break
            time.sleep(0.01)
        assert path.stat().st_mtime > 0
        # Taken over, as after a long sleep of this machine: it is theirs, and stays when we end.
        write_claim(tmp_path, machine="elsewhere")
    assert json.loads(path.read_text())["machine"] == "elsewhere"


def test_of_many_that_come_at_once_one_gets_it(tmp_path: Path) -> None:
    """The claim of a dead process is taken over by one of eight."""
    write_claim(tmp_path, started=0.0)
    context = multiprocessing.get_context("fork")
    barrier, won, leave = context.Barrier(8), context.Queue(), context.Event()

    def rush() -> None:
        barrier.wait()
        with Claims(tmp_path).hold("run") as ours:
            won.put(ours is not None)
            leave.wait(20)

    rushing = [context.Process(target=rush) for _ in range(8)]
    for process in rushing:
        process.start()
    results = [won.get(timeout=20) for _ in rushing]
    leave.set()
    for process in rushing:
        process.join()
    assert sorted(results) == [False] * 7 + [True]
