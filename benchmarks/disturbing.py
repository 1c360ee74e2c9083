"""Processes that are killed, ended or stopped in the middle of a command, in pairs."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import torch

from adapter_stilts.runs import claims

# Processes at one command at the same time.
TOGETHER = 2
# A stopped process goes on after so many seconds, when what it had claimed is long another's.
STOPPED, CLAIM_TIMEOUT, HEARTBEAT = 2.0, 1.0, 0.2
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
POLL = 0.01

Command = Callable[[], None]


@dataclass(frozen=True)
class Disturbance:
    """A signal: so many seconds after the start, or before the so-many-th time that something is renamed or synced to
    the disk."""

    signal: signal.Signals
    seconds: float | None
    operation: int | None


@dataclass
class Running:
    """A process, and what is to befall it (None: nothing more)."""

    process: BaseProcess
    disturbance: Disturbance | None
    started: float
    stopped: float | None = None


def start(command: Command, errors: Path, disturbance: Disturbance | None = None) -> BaseProcess:
    """The command in a process of its own, forked so that what Python imports is paid for once."""
    process = multiprocessing.get_context("fork").Process(target=_quietly, args=(command, errors, disturbance))
    process.start()
    return process


def run_alone(command: Command, errors: Path) -> float:
    """The command, left alone; the seconds it took."""
    begun = time.perf_counter()
    process = start(command, errors)
    process.join()
    _require_success(process, errors)
    return time.perf_counter() - begun


def disturb(
    command: Command,
    errors: Path,
    count: int,
    longest: float,
    operations: int,
    rng: random.Random,
    lasting: bool,
    again: Callable[[], bool],
    look: Callable[[], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Run the command in pairs of processes, each disturbed (by turns after a random time of up to `longest` seconds,
    or at one of its first `operations`), until so many were; each signal in turn. Between two pairs `again` says
    whether there is still something to do; `lasting` work can be made anew as often as it takes. Returns what
    `look` saw at each."""
    moments: list[dict[str, Any]] = []
    running: list[Running] = []
    begun = 0
    while running or (len(moments) < count and again()):
        while len(running) < TOGETHER and len(moments) + len(running) < count:
            one = _disturbance(begun, longest, operations, rng)
            running.append(Running(start(command, errors, one), one, time.monotonic()))
            begun += 1
        for one in list(running):
            befell = _befell(one)
            if befell is not None:
                # One that was stopped goes on to the end, or to another signal where the work would end too soon.
                more = befell["signal"] == signal.SIGSTOP.name and len(moments) + len(running) < count and not lasting
                one.disturbance = Disturbance(signal.SIGKILL, longest, None) if more else None
                one.started, one.stopped = time.monotonic(), None
                moments.append({"number": len(moments) + 1, **befell, **look()})
            if not one.process.is_alive():
                running.remove(one)
                if befell is None:
                    _require_success(one.process, errors)
        time.sleep(POLL)
    return moments


def _disturbance(number: int, longest: float, operations: int, rng: random.Random) -> Disturbance:
    chosen = SIGNALS[number % len(SIGNALS)]
    if (number // len(SIGNALS)) % 2:
        return Disturbance(chosen, None, rng.randint(1, operations))
    return Disturbance(chosen, rng.uniform(0.05, longest), None)


def _befell(one: Running) -> dict[str, Any] | None:
    """What has befallen a process since the last look; sends the signal when it is time, and lets one that was stopped
    go on."""
    due = one.disturbance
    if due is None:
        return None
    now = time.monotonic()
    if due.seconds is not None and one.stopped is None and now - one.started >= due.seconds and one.process.is_alive():
        os.kill(one.process.pid, due.signal)
    if due.signal == signal.SIGSTOP:
        if one.stopped is None and _is_stopped(one.process.pid):
            one.stopped = now
        if one.stopped is None or now - one.stopped < STOPPED:
            return None
        os.kill(one.process.pid, signal.SIGCONT)
    else:
        one.process.join(POLL)
        if one.process.exitcode != -due.signal:
            return None
    where = "operation" if due.operation else "instant"
    return {"signal": due.signal.name, "at": where}


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def _require_success(process: BaseProcess, errors: Path) -> None:
    process.join()
    if process.exitcode:
        output = errors.read_text(encoding="utf-8")[-3000:] if errors.is_file() else ""
        raise SystemExit(f"a process ended by itself with exit code {process.exitcode}\n{output}")


def _quietly(command: Command, errors: Path, disturbance: Disturbance | None) -> None:
    """What a forked process does."""
    torch.set_num_threads(1)
    claims.HEARTBEAT, claims.TIMEOUT = HEARTBEAT, CLAIM_TIMEOUT
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    if disturbance is not None and disturbance.operation is not None:
        _signal_at_operation(disturbance.signal, disturbance.operation)
    command()


def _signal_at_operation(chosen: signal.Signals, operation: int) -> None:
    """This process gets the signal before its so-many-th rename or sync."""
    count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == operation:
                os.kill(os.getpid(), chosen)
            return call(*arguments, **options)

        return wrapped

    for name in ("replace", "rename", "fsync"):
        setattr(os, name, counted(getattr(os, name)))
