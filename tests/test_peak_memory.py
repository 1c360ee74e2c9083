"""Peak memory of a block."""

import sys

import psutil
import pytest

from adapter_stilts import memory

MEBIBYTE = 2**20


def test_the_highest_sum_that_a_look_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the beginning, twice between, at the end; the thread's own are put off."""
    seen = iter([100, 300, 250, 200])
    monkeypatch.setattr(memory, "LOOK_EVERY", 60.0)
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [])
    monkeypatch.setattr(memory, "_resident", lambda process: next(seen))
    with memory.PeakMemory() as peak:
        peak._look()
        peak._look()
    assert (peak.bytes, list(seen)) == (300, [])


def test_processes_that_it_starts_count() -> None:
    with memory.PeakMemory() as peak:
        child = psutil.Popen(
            [sys.executable, "-c", f"x = bytearray(b'x' * (300 * {MEBIBYTE})); print(1, flush=True); input()"],
            stdin=-1,
            stdout=-1,
        )
        child.stdout.readline()
        peak._look()
        resident = psutil.Process().memory_info().rss
        child.communicate(b"\n")
    assert peak.bytes > resident + 200 * MEBIBYTE
