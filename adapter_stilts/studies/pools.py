"""Workers that carry out orders: in this process, or in several of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from adapter_stilts.model.backbone import Backbone
from adapter_stilts.studies.work import Order, Outcome, Site, carry_out, serve
from adapter_stilts.threads import computing_with

# Seconds that a worker has to tidy up when it is told to end.
GRACE = 5.0


class Pool(Protocol):
    """Carries out orders, so many at once."""

    def free(self) -> int:
        """How many orders can be given now."""

    def give(self, order: Order) -> None:
        """Start on an order."""

    def outcomes(self, timeout: float) -> Sequence[Outcome]:
        """What has ended since the last call; waits so many seconds for the first."""

    def close(self) -> None:
        """End the workers, and what they are at."""


class Here:
    """One order at a time, in this process."""

    def __init__(self, site: Site, backbone: Backbone) -> None:
        self.site, self.backbone = site, backbone
        self.ended: list[Outcome] = []

    def free(self) -> int:
        return 0 if self.ended else 1

    def give(self, order: Order) -> None:
        with computing_with(self.site.environment.threads):
            self.ended.append(carry_out(order, self.site, self.backbone))

    def outcomes(self, timeout: float) -> Sequence[Outcome]:
        ended, self.ended = self.ended, []
        return ended

    def close(self) -> None:
        return


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """A process that starts within the block never hears of Ctrl-C: the study tells it to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass
class Worker:
    """A process, the connection to it, and what it is at."""

    process: BaseProcess
    connection: Connection
    order: Order | None = None


class Processes:
    """Orders in processes of their own: one that dies takes no other with it."""

    def __init__(self, site: Site, count: int) -> None:
        self.site = site
        self.workers = [self._start() for _ in range(count)]

    def free(self) -> int:
        return sum(worker.order is None for worker in self.workers)

    def give(self, order: Order) -> None:
        worker = next(worker for worker in self.workers if worker.order is None)
        worker.order = order
        with suppress(OSError):  # it has died: `outcomes` finds that
            worker.connection.send(order)

    def outcomes(self, timeout: float) -> Sequence[Outcome]:
        busy = [worker for worker in self.workers if worker.order is not None]
        handles = [handle for worker in busy for handle in (worker.connection, worker.process.sentinel)]
        ready = wait(handles, timeout) if handles else []
        ended = []
        for worker in busy:
            if worker.connection in ready or worker.process.sentinel in ready:
                ended.append(self._ended(worker))
        return ended

    def close(self) -> None:
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()

    def _start(self) -> Worker:
        # Not forked: threads and CUDA do not survive that.
        context = multiprocessing.get_context("spawn")
        connection, worker_end = context.Pipe()
        process = context.Process(target=serve, args=(worker_end, self.site, os.getpid()), daemon=True)
        with _ctrl_c_ignored():
            process.start()
        worker_end.close()
        return Worker(process, connection)

    def _ended(self, worker: Worker) -> Outcome:
        order, worker.order = worker.order, None
        assert order is not None
        try:
            return worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            fresh = self._start()
            worker.connection.close()
            code, worker.process, worker.connection = worker.process.exitcode, fresh.process, fresh.connection
            assert code is not None  # it was joined
            return _outcome_of_dead(order.name, code)


def _outcome_of_dead(name: str, code: int) -> Outcome:
    """What became of an order whose worker ended with an exit code: a signal gives its negative number, or 128 more
    where the worker tidied up first."""
    number = -code if code < 0 else code - 128
    if number <= 0:
        return Outcome(name, "failed", f"its worker ended with exit code {code}")
    memory = " (out of memory?)" if number == signal.SIGKILL else ""
    return Outcome(name, "killed", f"its worker was killed by signal {number}{memory}")
