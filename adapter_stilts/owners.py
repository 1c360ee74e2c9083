"""Who made a file: a machine, a process on it and its start, so that others can tell whether it still lives."""

from __future__ import annotations

import hashlib
import math
import os
import re
import socket
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

# Start times of a process as two others see it, in seconds.
_SAME_START = 2.0
_PARTIAL = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d{1,10})-(?P<started>\d{1,14})-[0-9a-f]{8}\.partial")


@dataclass(frozen=True)
class Owner:
    """A process: its machine (see `machine`), number, and start in seconds since 1970."""

    machine: str
    pid: int
    started: float

    @property
    def is_here(self) -> bool:
        """Whether this process can see whether that one lives."""
        return self.machine in (machine(), _digest(machine()))

    @property
    def lives(self) -> bool:
        """Whether that very process runs on this machine: its number may have gone to another one."""
        return self._status() not in (None, psutil.STATUS_ZOMBIE)

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to pause (SIGSTOP, Ctrl-Z, a debugger)."""
        return self._status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def _status(self) -> str | None:
        try:
            process = psutil.Process(self.pid)
            return process.status() if abs(process.create_time() - self.started) < _SAME_START else None
        except (psutil.Error, ValueError, OverflowError):
            return None


def machine() -> str:
    """This machine since its start, as far as process numbers mean the same: name, boot, process namespace."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def myself() -> Owner:
    """This process."""
    return Owner(machine(), os.getpid(), _started(os.getpid()))


def owner_of_json(content: Any) -> Owner | None:
    """The owner that a JSON object names; None where it names none, or nonsense."""
    if not isinstance(content, dict):
        return None
    name, pid, started = (content.get(key) for key in ("machine", "pid", "started"))
    if not isinstance(name, str) or type(pid) is not int or pid <= 0 or isinstance(started, bool):
        return None
    if not isinstance(started, int | float) or not math.isfinite(started):
        return None
    return Owner(name, pid, float(started))


def partial_name(name: str) -> str:
    """A new name beside `name` for what this process has not finished writing; it begins with a dot, and says whose
    it is."""
    own = myself()
    return f".{name}.{_digest(own.machine)}-{own.pid}-{round(own.started * 100)}-{uuid.uuid4().hex[:8]}.partial"


def owner_of_partial(name: str) -> Owner | None:
    """Whose a name is that `partial_name` made; None for any other name."""
    match = _PARTIAL.fullmatch(name)
    return Owner(match["machine"], int(match["pid"]), int(match["started"]) / 100) if match else None


@lru_cache(maxsize=8)
def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


@lru_cache(maxsize=8)
def _started(pid: int) -> float:
    return psutil.Process(pid).create_time()
