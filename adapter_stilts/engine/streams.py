"""Parts of a packed batch side by side on a CPU: one thread a part, instead of all threads inside every operation.

An operation on a thousand pieces is too short to be shared among threads: they wait for each other after each of some
hundreds of them, and for longer where the machine does something else besides (`waiting`). A batch is divided into
parts, by its tokens alone and never by the number of threads: up to as many threads as there are parts change the time
and no bit. More of them share the operations inside a part. There the backward of a softmax rounds otherwise with
several threads than with one, and the gradients of layer norms, which full fine-tuning trains, with each number.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from adapter_stilts.engine.waiting import Watcher
from adapter_stilts.threads import computing_with

# Fewer tokens make matrix products slow; more parts than these would wait for Python's lock.
PART_TOKENS = 256
MOST_PARTS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def parts_of_batch(tokens: int) -> int:
    """Parts of a batch of so many tokens: a power of two, so that two, four or eight threads share them evenly."""
    parts = 1
    while parts < MOST_PARTS and tokens >= 2 * parts * PART_TOKENS:
        parts *= 2
    return parts


class Streams:
    """Threads that each work on one part at a time; on another device than a CPU everything happens in the caller's."""

    def __init__(self, device: torch.device) -> None:
        self.on_cpu = device.type == "cpu"
        self.threads = torch.get_num_threads() if self.on_cpu else 1
        self.pool: ThreadPoolExecutor | None = None
        self.watcher: Watcher | None = None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The function's result for each item, in order."""
        items = list(items)
        if self.threads > 1 and self.watcher is None:
            self.watcher = Watcher()
            weakref.finalize(self, self.watcher.ended.set)  # nobody looks any more for what was dropped unclosed
        workers = min(self.threads, MOST_PARTS, len(items))
        if workers < 2:
            yield from map(function, items)
            return
        if self.pool is None:
            self.pool = ThreadPoolExecutor(min(self.threads, MOST_PARTS), "stream")
        threads = max(1, self.threads // workers)
        with computing_with(threads):
            futures = deque(self.pool.submit(_with_threads, threads, function, item) for item in items)
            try:
                while futures:
                    yield futures.popleft().result()  # not kept: gradients are large
            finally:
                for future in futures:
                    future.cancel()
                # One that still ran would set the number of threads after it has been set back.
                wait(futures)

    def close(self) -> None:
        """End the threads."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
            self.pool = None
        if self.watcher is not None:
            self.watcher.close()
            self.watcher = None


def _with_threads(count: int, function: Callable[[Item], Result], item: Item) -> Result:
    """The function in a thread whose operations use so many threads: PyTorch keeps the number for each."""
    torch.set_num_threads(count)
    return function(item)
