"""Claims: one process a run, and what becomes of a dead one's."""

import errno
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapter_stilts.errors import StiltsError
from adapter_stilts.owners import machine, myself
from adapter_stilts.runs import claims
from adapter_stilts.runs.claims import Claims


def write_claim(store: Path, silent: float = 0.0, **changes: object) -> Path:
    """Somebody's claim on `run`, last touched so many seconds ago."""
    path = store / ".claims" / "run.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**myself().as_json(), "token": "theirs", **changes}))
    os.utime(path, (time.time() - silent,) * 2)
    return path


def is_claimed(store: Path) -> bool:
    with Claims(store).hold("run") as claim:
        return not claim


def test_a_claim_is_held_by_one_and_released(tmp_path: Path) -> None:
    one, other = Claims(tmp_path), Claims(tmp_path)
    with one.hold("run") as claim:
        assert claim
        assert one.held("run")
        with other.hold("run") as other_claim:
            assert not other_claim
        assert one.held("run")
        with other.hold("another") as other_claim:
            assert other_claim
    assert not one.held("run")
    assert not is_claimed(tmp_path)
    assert [path.name for path in (tmp_path / ".claims").iterdir()] == [".lock"]


def test_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Claims(tmp_path).hold("run"):
        raise KeyError
    assert not is_claimed(tmp_path)


def test_a_dead_process_of_this_machine_loses_its_claim_at_once(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process()
    process.start()
    process.join()
    assert process.pid is not None
    write_claim(tmp_path, pid=process.pid)
    assert not is_claimed(tmp_path)


def test_a_process_with_the_number_of_a_dead_one_is_not_it(tmp_path: Path) -> None:
    ticks = myself().ticks
    assert ticks is not None
    write_claim(tmp_path, ticks=ticks - 1)
    assert not is_claimed(tmp_path)
    write_claim(tmp_path, ticks=ticks)
    assert is_claimed(tmp_path)


@pytest.mark.parametrize(("silent", "expected"), [(claims.TIMEOUT - 30, True), (claims.TIMEOUT + 30, False)])
def test_a_process_elsewhere_is_believed_dead_after_the_timeout(tmp_path: Path, silent: float, expected: bool) -> None:
    """A machine that was started anew is another one: its process numbers mean others."""
    write_claim(tmp_path, silent, machine="elsewhere", pid=1)
    assert is_claimed(tmp_path) is expected


@pytest.mark.parametrize(("silent", "expected"), [(0.0, True), (claims.UNWRITTEN_TIMEOUT + 30, False)])
def test_a_claim_without_an_owner_is_one_that_is_being_written_or_was_left(
    tmp_path: Path, silent: float, expected: bool
) -> None:
    path = write_claim(tmp_path)
    path.write_text("")
    os.utime(path, (time.time() - silent,) * 2)
    assert is_claimed(tmp_path) is expected


def test_clear_removes_dead_claims_alone(tmp_path: Path) -> None:
    path = write_claim(tmp_path)
    Claims(tmp_path).clear()
    assert path.exists()
    write_claim(tmp_path, ticks=0)
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


def test_one_failed_read_ends_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As network file systems have them: it is touched again, is not lost, is nobody else's, and goes at its end."""
    path, read = tmp_path / ".claims" / "run.json", claims.read_regular
    failed = []

    def failing(asked: Path, most: int) -> bytes:
        if fails and asked == path:
            failed.append(asked)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(asked))
        return read(asked, most)

    fails = True
    monkeypatch.setattr(claims, "read_regular", failing)
    with Claims(tmp_path, heartbeat=0.01).hold("run") as claim:
        assert claim is not None
        while len(failed) < 3:
            time.sleep(0.01)
        assert not claim.is_lost
        os.utime(path, (time.time() - claims.UNWRITTEN_TIMEOUT - 30,) * 2)
        assert Claims(tmp_path).held("run")
        fails = False
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0
    assert not path.exists()


def test_needs_that_cannot_be_read_may_be_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path, most: int) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with Claims(tmp_path).need(["other"]) as needs:
        with monkeypatch.context() as patch:
            patch.setattr(claims, "read_regular", failing)
            with Claims(tmp_path).unneeded("run") as free:
                assert not free
            os.utime(needs.path, (time.time() - claims.TIMEOUT - 30,) * 2)
            with Claims(tmp_path).unneeded("run") as free:
                assert free
        with Claims(tmp_path).unneeded("run") as free:
            assert free


def test_damaged_needs_are_removed_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / ".claims" / "x.needs").parent.mkdir()
    path.write_text("{")
    os.utime(path, (time.time() - claims.UNWRITTEN_TIMEOUT - 1,) * 2)
    Claims(tmp_path).clear()
    assert not path.exists()
    assert capsys.readouterr().err == f"{path}: found a claim that names no owner; it is taken over\n"


def test_of_many_that_come_at_once_one_gets_it(tmp_path: Path) -> None:
    """The claim of a dead process is taken over by one of eight."""
    write_claim(tmp_path, ticks=0)
    context = multiprocessing.get_context("fork")
    barrier, won, leave = context.Barrier(8), context.Queue(), context.Event()

    def rush() -> None:
        barrier.wait()
        with Claims(tmp_path).hold("run") as claim:
            won.put(claim is not None)
            leave.wait(20)

    rushing = [context.Process(target=rush) for _ in range(8)]
    for process in rushing:
        process.start()
    results = [won.get(timeout=20) for _ in rushing]
    leave.set()
    for process in rushing:
        process.join()
    assert sorted(results) == [False] * 7 + [True]


DAMAGE = {
    "no JSON": "{",
    "wrong types": '{"machine": "HERE", "pid": "abc", "ticks": 1, "token": "x"}',
    "nested deep": "[" * 100_000,
    "a list": "[1]",
}


@pytest.mark.parametrize("text", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_claim_is_taken_over_with_one_line(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_claim(tmp_path)
    path.write_text(text.replace("HERE", machine()))
    os.utime(path, (time.time() - claims.UNWRITTEN_TIMEOUT - 1,) * 2)
    assert not Claims(tmp_path).held("run")
    assert not is_claimed(tmp_path)
    assert capsys.readouterr().err == f"{path}: found a claim that names no owner; it is taken over\n"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_nobodys_claim(tmp_path: Path, make: Any) -> None:
    (tmp_path / ".claims").mkdir()
    make(tmp_path / ".claims" / "run.json")
    assert not Claims(tmp_path).held("run")
    assert not is_claimed(tmp_path)


def test_a_claim_from_the_future_is_nobodys(tmp_path: Path) -> None:
    write_claim(tmp_path, -claims.TIMEOUT - 30, machine="elsewhere")
    assert not is_claimed(tmp_path)


@pytest.mark.parametrize("name", [".claims", ".claims/.lock"])
def test_claims_that_cannot_be_kept_are_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == ".claims":
        path.touch()
    else:
        path.mkdir(parents=True)
    with pytest.raises(StiltsError, match=f"^{path}: cannot be used for claims \\("), Claims(tmp_path).hold("run"):
        pass


def test_a_stopped_process_loses_its_claim_after_the_timeout(tmp_path: Path) -> None:
    """It lives: until then it keeps it; when it goes on it sees that it has lost it, and leaves the new one alone."""
    context = multiprocessing.get_context("fork")
    holds, lost = context.Event(), context.Queue()

    def sleeper() -> None:
        with Claims(tmp_path, heartbeat=0.05).hold("run") as claim:
            assert claim is not None
            holds.set()
            while not claim.is_lost:
                time.sleep(0.01)
            lost.put(True)

    process = context.Process(target=sleeper)
    process.start()
    assert holds.wait(20)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    path = tmp_path / ".claims" / "run.json"
    assert is_claimed(tmp_path)
    os.utime(path, (time.time() - claims.TIMEOUT - 1,) * 2)
    with Claims(tmp_path).hold("run") as claim:
        assert claim is not None
        os.kill(process.pid, signal.SIGCONT)
        assert lost.get(timeout=20)
        process.join(20)
        assert not claim.is_lost
    assert process.exitcode == 0


def test_needs_hold_until_they_are_given_up_or_their_process_is_dead(tmp_path: Path) -> None:
    def unneeded(name: str, besides: Any = None) -> bool:
        with Claims(tmp_path).unneeded(name, besides) as free:
            return free

    assert unneeded("run")
    with Claims(tmp_path).need(["run", "other"]) as needs:
        assert not unneeded("run")
        assert unneeded("third")
        assert unneeded("run", needs)
        needs.give_up("run")
        assert unneeded("run")
        assert not unneeded("other")
        content = json.loads(needs.path.read_text())
        needs.path.write_text(json.dumps(content | {"ticks": 0}))
        assert unneeded("other")
    with Claims(tmp_path).hold("run"):
        assert not unneeded("run")
    (tmp_path / ".claims" / "x.needs").write_text('{"needs": 3}')
    assert unneeded("run")
