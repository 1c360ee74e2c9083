"""Who is at work on which run: one file a run, so that processes that share a store do nothing twice.

A claim is created exclusively, touched now and then, and removed at the end. One whose owner is dead is taken over: at
once where the owner's process can be seen to be gone (same machine, same boot), else after `TIMEOUT` seconds without a
touch, by the clock of the file system, so that machines need not agree on the time.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

CLAIMS = ".claims"
HEARTBEAT, TIMEOUT = 10.0, 120.0
# Between creating a claim and writing its owner into it lie microseconds: one without an owner was left by a kill.
UNWRITTEN_TIMEOUT = 5.0
# Start times of a process as two others see it.
_SAME_START = 2.0


class Claims:
    """The claims of one store, as this process holds and sees them."""

    def __init__(self, store: Path, heartbeat: float = HEARTBEAT, timeout: float = TIMEOUT) -> None:
        self.folder = store / CLAIMS
        self.heartbeat, self.timeout = heartbeat, timeout

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """Whether the run is ours for the time of the block; False where a living process has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path, token = self.folder / f"{name}.json", uuid.uuid4().hex
        with self._alone():
            ours = self._take(path, token)
        if not ours:
            yield False
            return
        over = threading.Event()
        heart = threading.Thread(target=self._beat, args=(path, token, over), daemon=True)
        heart.start()
        try:
            yield True
        finally:
            over.set()
            heart.join()
            with self._alone():
                if _owner(path).get("token") == token:
                    path.unlink(missing_ok=True)

    def clear(self, name: str) -> None:
        """Remove the claim of a dead process on a run that is done."""
        path = self.folder / f"{name}.json"
        if path.is_file():
            with self._alone():
                if path.is_file() and self._is_dead(path):
                    path.unlink(missing_ok=True)

    def owner(self, name: str) -> dict[str, object] | None:
        """Who holds the run, where someone living does."""
        path = self.folder / f"{name}.json"
        return _owner(path) if path.is_file() and not self._is_dead(path) else None

    def _take(self, path: Path, token: str) -> bool:
        if path.exists():
            if not self._is_dead(path):
                return False
            path.unlink(missing_ok=True)
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(file, "w", encoding="utf-8") as text:
                json.dump(_myself(token), text)
        except OSError:
            path.unlink(missing_ok=True)  # a full disk
            raise
        return True

    def _is_dead(self, path: Path) -> bool:
        owner = _owner(path)
        if owner.get("machine") == machine():
            return not _lives(int(str(owner["pid"])), float(str(owner["started"])))
        try:
            silent = self._now() - path.stat().st_mtime
        except FileNotFoundError:
            return True
        return silent > (self.timeout if owner else UNWRITTEN_TIMEOUT)

    def _now(self) -> float:
        """The time by the clock of the file system that the claims lie on."""
        probe = self.folder / f".clock-{os.getpid()}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _beat(self, path: Path, token: str, over: threading.Event) -> None:
        while not over.wait(self.heartbeat):
            if _owner(path).get("token") != token:
                return  # taken over while this machine slept: the run ends twice, with the same result
            with suppress(OSError):
                os.utime(path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time looks at claims and takes them; the system frees the lock of one that dies."""
        with open(self.folder / ".lock", "a", encoding="utf-8") as lock:
            with suppress(OSError):  # a file system without locks: exclusive creation still keeps two apart
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def machine() -> str:
    """This machine since its start, as far as process numbers mean the same: name, boot, process namespace."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _myself(token: str) -> dict[str, object]:
    started = psutil.Process().create_time()
    return {"machine": machine(), "pid": os.getpid(), "started": started, "token": token}


def _owner(path: Path) -> dict[str, object]:
    """What a claim says; nothing where it is gone or not written yet."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) and {"machine", "pid", "started", "token"} <= owner.keys() else {}


def _lives(pid: int, started: float) -> bool:
    """Whether that very process runs: its number may have gone to another one."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < _SAME_START and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
