"""Who made a file: a machine, a process on it and its start, so that others can tell whether it still lives."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

# Start times of a process as two others see it, in seconds.
_SAME_START = 2.0
_LARGEST_START = 1e15
_STOPPED, _ENDED = "tT", "ZX"  # letters of /proc/PID/stat
# A start is `t` and clock ticks, or hundredths of a second since 1970.
_PASSING = re.compile(
    r"\.(?P<name>.+)\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d{1,10})-(?:t(?P<ticks>\d{1,20})|(?P<started>\d{1,14}))"
    r"-[0-9a-f]{8}\.(?P<kind>partial|replaced)"
)


@dataclass(frozen=True)
class Owner:
    """A process: its machine (see `machine`), number and start. The start is in clock ticks since that of the machine,
    which no setting of the clock moves; where there is no /proc, in seconds since 1970."""

    machine: str
    pid: int
    ticks: int | None = None
    started: float | None = None

    @property
    def lives(self) -> bool | None:
        """Whether that very process runs here: its number may have gone to another one. None where this process cannot
        see that: of another machine, of another user where /proc hides those, of a version that wrote down seconds
        where ticks are known. Who asks must then go by age."""
        state = self._state()
        return None if state is None else state not in ("", *_ENDED)

    @property
    def is_stopped(self) -> bool:
        """Whether it is seen to have been told to pause (SIGSTOP, Ctrl-Z, a debugger)."""
        return self._state() in tuple(_STOPPED)

    def as_json(self) -> dict[str, Any]:
        start = {"started": self.started} if self.ticks is None else {"ticks": self.ticks}
        return {"machine": self.machine, "pid": self.pid, **start}

    def _state(self) -> str | None:
        """The letter that /proc gives its state; empty where it is gone, None where that cannot be seen."""
        if self.machine not in (machine(), _digest(machine())) or _counts_ticks() != (self.ticks is not None):
            return None
        try:
            os.kill(self.pid, 0)  # asks only, and is not fooled by a /proc that hides processes
        except (ProcessLookupError, OverflowError):
            return ""
        except OSError:
            pass  # another user's: it is there
        return self._state_by_ticks() if self.ticks is not None else self._state_by_seconds()

    def _state_by_ticks(self) -> str | None:
        try:
            state, ticks = _stat(self.pid)
        except (OSError, ValueError, IndexError):
            return None
        return state if ticks == self.ticks else ""

    def _state_by_seconds(self) -> str | None:
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - (self.started or 0.0)) >= _SAME_START:
                return ""
            status = process.status()
        except (psutil.Error, ValueError, OverflowError):
            return None
        letters = {psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_STOPPED: "T", psutil.STATUS_TRACING_STOP: "t"}
        return letters.get(status, "R")


def machine() -> str:
    """This machine since its start, as far as process numbers mean the same: name, boot, process namespace."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def myself() -> Owner:
    """This process."""
    return _process(machine(), os.getpid())


def owner_of_json(content: Any) -> Owner | None:
    """The owner that a JSON object names; None where it names none, or nonsense."""
    if not isinstance(content, dict):
        return None
    name, pid, ticks, started = (content.get(key) for key in ("machine", "pid", "ticks", "started"))
    if not isinstance(name, str) or type(pid) is not int or pid <= 0:
        return None
    if type(ticks) is int and ticks >= 0:
        return Owner(name, pid, ticks=ticks)
    if ticks is not None or isinstance(started, bool) or not isinstance(started, int | float):
        return None
    if not abs(started) < _LARGEST_START:  # nor NaN
        return None
    return Owner(name, pid, started=float(started))


def partial_name(name: str) -> str:
    """A new name beside `name` for what this process has not finished writing; it begins with a dot, and says whose
    it is."""
    return _passing_name(name, "partial")


def replaced_name(name: str) -> str:
    """As `partial_name`, for what has the name `name` and gives way to something else."""
    return _passing_name(name, "replaced")


def owner_of_partial(name: str) -> Owner | None:
    """Whose a name is that `partial_name` made; None for any other name."""
    match = _PASSING.fullmatch(name)
    return _owner(match) if match and match["kind"] == "partial" else None


def owner_of_replaced(name: str) -> tuple[str, Owner] | None:
    """The name before, and whose it is, of one that `replaced_name` made; None for any other name."""
    match = _PASSING.fullmatch(name)
    return (match["name"], _owner(match)) if match and match["kind"] == "replaced" else None


def _passing_name(name: str, kind: str) -> str:
    process = myself()
    start = str(round((process.started or 0.0) * 100)) if process.ticks is None else f"t{process.ticks}"
    return f".{name}.{_digest(process.machine)}-{process.pid}-{start}-{uuid.uuid4().hex[:8]}.{kind}"


def _owner(match: re.Match[str]) -> Owner:
    if match["ticks"] is not None:
        return Owner(match["machine"], int(match["pid"]), ticks=int(match["ticks"]))
    return Owner(match["machine"], int(match["pid"]), started=int(match["started"]) / 100)


def _stat(pid: int | str) -> tuple[str, int]:
    """State and start, in ticks since that of the machine, of a process (proc_pid_stat(5), fields 3 and 22). Raises
    OSError, ValueError or IndexError where it cannot be read."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return fields[0].decode("ascii"), int(fields[19])


def _counts_ticks() -> bool:
    """Whether the system tells starts in ticks, of the processes that this one's number is among."""
    return _process(machine(), os.getpid()).ticks is not None


@lru_cache(maxsize=8)
def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


@lru_cache(maxsize=8)
def _process(name: str, pid: int) -> Owner:
    """This process, whose number is given for the memory's sake: a fork has another one."""
    with suppress(OSError, ValueError, IndexError):
        if os.readlink("/proc/self") == str(pid):  # else it is that of another namespace
            return Owner(name, pid, ticks=_stat("self")[1])
    with suppress(psutil.Error):
        return Owner(name, pid, started=psutil.Process(pid).create_time())
    return Owner(name, pid, started=0.0)
