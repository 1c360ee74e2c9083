"""One run of a study, done by one worker: claimed, trained, scored, released."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from types import FrameType
from typing import Literal

from safetensors import SafetensorError

from adapter_stilts.errors import StiltsError
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.files import atomic_write_text
from adapter_stilts.jobs.request import Request
from adapter_stilts.memory import memory_given_back
from adapter_stilts.model.backbone import Backbone, load_backbone
from adapter_stilts.progress import quiet_libraries
from adapter_stilts.residue import remove
from adapter_stilts.runs.claims import Claims
from adapter_stilts.runs.record import RECORD
from adapter_stilts.runs.store import BUNDLE, Run, RunStore
from adapter_stilts.runs.tidy import CHECKPOINTS, FAILURES, tidy
from adapter_stilts.studies.grid import tasks_of
from adapter_stilts.training.api import run_request
from adapter_stilts.training.environment import Environment

# Between two looks of a worker at whether its study still runs.
WATCH_EVERY = 1.0

Kind = Literal["done", "failed", "taken", "gone", "killed", "disk full"]


@dataclass(frozen=True)
class Site:
    """Where and how a study's runs are trained and scored: what a worker knows besides the run itself."""

    environment: Environment
    backbone: str
    split: str
    test_limit: int | None
    test_languages: tuple[str, ...] | None


@dataclass(frozen=True)
class Order:
    """A run that a worker is to do: its name, its request, the runs whose weights it reads, of which the first so many
    are intermediates, and the task that it is scored on, as the study names it (None: not scored)."""

    name: str
    request: Request
    over: tuple[str, ...]
    intermediates: int
    target: str | None


@dataclass(frozen=True)
class Outcome:
    """What became of an order; `reason` is one line, `tokens` were read in `seconds` of training steps. `taken`: by
    another process; `gone`: the weights of the runs `gone`, which were there, are not; `killed`: its worker was."""

    name: str
    kind: Kind
    reason: str = ""
    tokens: int = 0
    seconds: float = 0.0
    gone: tuple[str, ...] = ()


@memory_given_back()
def carry_out(order: Order, site: Site, backbone: Backbone | None = None) -> Outcome:
    """Do one run under its claim, and say what became of it; an interruption alone is raised."""
    store = site.environment.store
    try:
        with Claims(store.folder).hold(order.name) as claim:
            if claim is None:
                return Outcome(order.name, "taken")
            try:
                run = _do(order, site, backbone)
            except Exception as error:
                # Stopped for so long that another process took it over: the run is that one's now.
                return Outcome(order.name, "taken") if claim.is_lost else _failed(order, store, error)
        # Those of a run that ended between being written down and being tidied up.
        remove(store.folder / CHECKPOINTS / order.name)
        (store.folder / FAILURES / f"{order.name}.txt").unlink(missing_ok=True)
        cost = run.record.cost
        tokens = round(cost.tokens_per_second * cost.train_seconds)
        return Outcome(order.name, "done", tokens=tokens, seconds=cost.train_seconds)
    except Exception as error:
        return _failed(order, store, error)


def _do(order: Order, site: Site, backbone: Backbone | None) -> Run:
    """The run, trained and scored."""
    with _silently():
        run = _train(order, site.environment, backbone or _load_backbone(site))
        if order.target is not None:
            _evaluate(run, order.target, site)
    return run


def _failed(order: Order, store: RunStore, error: Exception) -> Outcome:
    """What an error makes of an order; one that is not to be tried again at once is written down."""
    if is_full_disk(error):
        return Outcome(order.name, "disk full", _one_line(error))
    if gone := _gone(order, store):
        return Outcome(order.name, "gone", _one_line(error), gone=gone)
    if isinstance(error, StiltsError):
        _write_failure(store, order.name, _one_line(error))
        return Outcome(order.name, "failed", _one_line(error))
    pointer = _write_failure(store, order.name, "".join(traceback.format_exception(error)))
    return Outcome(order.name, "failed", f"{type(error).__name__}: {_one_line(error)}{pointer}")


def _gone(order: Order, store: RunStore) -> tuple[str, ...]:
    """Runs whose weights an order reads and that have lost them: its own where it is trained and to be scored, else
    those underneath."""

    def has(name: str, what: str) -> bool:
        return (store.folder / name / what).exists()

    if has(order.name, BUNDLE):
        return ()
    below = tuple(name for name in order.over if not has(name, BUNDLE))
    return below or ((order.name,) if order.target is not None and has(order.name, RECORD) else ())


def _load_backbone(site: Site) -> Backbone:
    return load_backbone(site.backbone, mirror=site.environment.mirror)


def _train(order: Order, environment: Environment, backbone: Backbone) -> Run:
    """The finished run, trained where it is not there with its weights. Raises StiltsError for one of another name."""
    tidy(environment.store)
    over = tuple(_underneath(environment.store, name) for name in order.over[: order.intermediates])
    run = run_request(replace(order.request, over=over, backbone=backbone), environment)
    if run.name != order.name:
        raise StiltsError(f"{order.name}: trained as {run.name}; its data or code changed since the plan was made")
    return run


def _underneath(store: RunStore, name: str) -> Run:
    run = store.get(name)
    if run is None:
        raise StiltsError(f"{name}: was there when the plan was made, and is gone")
    return run


def _evaluate(run: Run, target: str, site: Site) -> None:
    (task,) = tasks_of(target)
    evaluate(
        run,
        task,
        languages=site.test_languages,
        split=site.split,
        limit=site.test_limit,
        runs=site.environment.store,
        mirror=site.environment.mirror,
        device=site.environment.device,
    )


def is_full_disk(error: BaseException) -> bool:
    """Whether an error says that there is no room left to write."""
    if isinstance(error, StiltsError) and error.__cause__ is not None:
        return is_full_disk(error.__cause__)  # one that names the folder
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, SafetensorError) and ("No space left" in str(error) or "os error 28" in str(error))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]


def _write_failure(store: RunStore, name: str, text: str) -> str:
    """Write down why a run failed, for reports: one line, or the traceback of an error that nobody foresaw. Returns
    where that is, in words; nothing where it cannot be written."""
    path = store.folder / FAILURES / f"{name}.txt"
    with suppress(OSError, StiltsError):
        atomic_write_text(path, text)
        return f" (see {path})"
    return ""


@contextmanager
def _silently() -> Iterator[None]:
    """The study tells of its progress: its runs keep quiet."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere), quiet_libraries():
        yield


# --- a worker's process -----------------------------------------------------------------------------------------------


def serve(connection: Connection, site: Site, parent: int) -> None:
    """Carry out the orders that come over the connection until it closes, or the study's process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study decides what Ctrl-C means
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    threads = site.environment.threads
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    backbone: Backbone | None = None
    while True:
        try:
            order = connection.recv()
        except (EOFError, OSError):
            return
        try:
            backbone = backbone or _load_backbone(site)
            connection.send(carry_out(order, site, backbone))
        except StiltsError as error:
            connection.send(Outcome(order.name, "failed", _one_line(error)))


def _leave(number: int, frame: FrameType | None) -> None:
    """End as an error would, so that half-written folders go."""
    sys.exit(128 + number)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_EVERY)
    os._exit(1)
