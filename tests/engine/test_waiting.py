"""How threads wait: chosen from what they lose to others, without changing a bit."""

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from adapter_stilts.engine import waiting
from adapter_stilts.engine.streams import Streams
from adapter_stilts.engine.waiting import (
    OVER_SECONDS,
    Chooser,
    Reading,
    Surplus,
    Watcher,
    delay_rate,
    gnu_openmp,
    read_delays,
)
from adapter_stilts.threads import usable_cores

needs_gnu = pytest.mark.skipif(gnu_openmp() is None, reason="PyTorch computes with another OpenMP here")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Threads as before, and no watcher of what earlier tests dropped unclosed."""
    gc.collect()
    assert within_seconds(lambda: watching() == 0)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def choices(rates: list[float], seconds: float) -> list[bool]:
    """What is chosen after each rate, each for so many seconds."""
    chooser = Chooser()
    return [chooser(rate, seconds) for rate in rates]


def test_load_counts_at_once_and_quiet_after_a_while() -> None:
    """The average moves by 1 - exp(-1) = 0.632 of the way in `OVER_SECONDS`: 0.632, 0.233, 0.086 and 0.032."""
    assert choices([0.0, 1.0, 0.0, 0.0, 0.0], OVER_SECONDS) == [False, True, True, False, False]


def test_chance_changes_nothing() -> None:
    """Between the bounds what was chosen stays: an average of 0.2 is neither load nor quiet."""
    assert choices([0.2] * 5, 10 * OVER_SECONDS) == [False] * 5
    assert choices([0.5, *[0.2] * 5, 0.0], 10 * OVER_SECONDS) == [*[True] * 6, False]
    assert choices([1.5] + [0.0] * 9, OVER_SECONDS / 10) == [False] * 10  # 1.5 x 0.095 = 0.143


def test_the_rate_is_of_the_threads_that_lived_all_the_time() -> None:
    before = Reading(10.0, {"1": 5.0, "2": 0.0, "ended": 9.0})
    after = Reading(14.0, {"1": 6.0, "2": 2.0, "new": 100.0})
    assert delay_rate(before, after) == 3 / 4
    assert delay_rate(Reading(10.0, {}), after) == 0.0


def test_delays_are_read_a_thread_each(tmp_path: Path) -> None:
    for task, text in {"7": "12 3400000000 5\n", "8": "1 250000000 3\n", "9": ""}.items():
        (tmp_path / task).mkdir()
        (tmp_path / task / "schedstat").write_text(text)
    (tmp_path / "10").mkdir()  # ended between the listing and the reading
    before = time.monotonic()
    reading = read_delays(tmp_path)
    assert reading.delays == {"7": 3.4, "8": 0.25}
    assert before <= reading.clock <= time.monotonic()
    assert read_delays(tmp_path / "absent").delays == {}


def living() -> set[str]:
    """Numbers of this process's threads."""
    return set(os.listdir("/proc/self/task"))


def within_seconds(reached: Callable[[], bool]) -> bool:
    """Whether that comes to be, within some seconds."""
    deadline = time.monotonic() + 10
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.01)
    return reached()


def comes_to_have(more: int, before: set[str]) -> bool:
    """Whether this process comes to have so many threads besides those of before, some of which may end meanwhile."""
    return within_seconds(lambda: len(living() - before) == more)


@needs_gnu
def test_surplus_threads_are_one_more_than_cores_and_go_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "usable_cores", lambda: 3)
    before = living()
    surplus = Surplus(gnu_openmp())
    for _ in range(2):
        surplus.hold(True)
        surplus.hold(True)
        assert comes_to_have(4, before)
        surplus.hold(False)
        surplus.hold(False)
        assert comes_to_have(0, before)


@needs_gnu
def test_how_threads_wait_changes_no_bit() -> None:
    torch.set_num_threads(2)
    surplus, results = Surplus(gnu_openmp()), []
    states = torch.randn(300, 384, generator=torch.Generator().manual_seed(0))

    def gradient() -> torch.Tensor:
        leaf = states.clone().requires_grad_()
        torch.softmax(leaf @ leaf.T, -1).square().sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    gradient()  # from now on PyTorch's own threads are there
    before = living()
    for brief in (False, True, False):
        surplus.hold(brief)
        assert comes_to_have(brief * (usable_cores() + 1), before)
        results.append(gradient())
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def watching() -> int:
    return sum(thread.name == "waiting" for thread in threading.enumerate())


@needs_gnu
def test_a_watcher_holds_threads_under_load_and_gives_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in waiting.CHOSEN_BY:
        monkeypatch.delenv(name, raising=False)
    ticks = iter(range(1_000_000))
    # Delayed all the time: as beside other work.
    monkeypatch.setattr(waiting, "read_delays", lambda: Reading(tick := next(ticks), {"1": float(tick)}))
    monkeypatch.setattr(waiting, "LOOK_EVERY", 0.001)
    held = threading.Event()
    monkeypatch.setattr(Surplus, "hold", lambda self, wanted: held.set() if wanted else held.clear())
    watcher = Watcher()
    assert held.wait(10)
    watcher.close()
    assert not held.is_set()
    assert watching() == 0


@pytest.mark.parametrize("name", waiting.CHOSEN_BY)
def test_who_has_chosen_how_threads_wait_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "PASSIVE")
    watcher = Watcher()
    assert watcher.thread is None
    watcher.close()


@needs_gnu
@pytest.mark.parametrize(("count", "watchers"), [(1, 0), (2, 1)])
def test_streams_watch_where_there_are_several_threads(
    count: int, watchers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in waiting.CHOSEN_BY:
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(count)
    streams = Streams(torch.device("cpu"))
    for _ in range(2):
        assert list(streams.map(lambda number: number + 1, [1])) == [2]
        assert watching() == watchers
    streams.close()
    assert watching() == 0


@needs_gnu
def test_streams_that_are_dropped_unclosed_are_watched_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in waiting.CHOSEN_BY:
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(2)
    streams = Streams(torch.device("cpu"))
    assert list(streams.map(lambda number: number + 1, [1])) == [2]
    assert watching() == 1
    del streams
    gc.collect()
    assert within_seconds(lambda: watching() == 0)
