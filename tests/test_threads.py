"""The number of threads: checked, and set for the time of a block."""

import os
import subprocess
import sys

import pytest
import torch

from adapter_stilts import threads
from adapter_stilts.errors import UsageError
from adapter_stilts.threads import computing_with, thread_count, usable_cores


def test_a_number_from_one_to_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    assert [thread_count(number) for number in (None, 1, 3)] == [None, 1, 3]
    for wrong in (0, -1, 4, 1.5, "2", True):
        with pytest.raises(UsageError, match=r"--threads: found .*, accepted a whole number from 1 to 3"):
            thread_count(wrong)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system gives a process all cores")
def test_cores_are_those_that_the_process_may_use() -> None:
    """Fewer than the machine has, where the process was given fewer: in a process of its own, since threads that live
    already keep their cores."""
    code = "import os; from adapter_stilts.threads import usable_cores; "
    code += f"os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}}); print(usable_cores())"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "1\n"


@pytest.mark.parametrize(("count", "expected"), [(3, 3), (None, 1)])
def test_cores_are_those_of_the_machine_where_the_system_does_not_say(
    monkeypatch: pytest.MonkeyPatch, count: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert usable_cores() == expected


def test_threads_are_set_for_a_block_and_set_back_after_an_error() -> None:
    before = torch.get_num_threads()

    def failing() -> None:
        with computing_with(before + 1):
            assert torch.get_num_threads() == before + 1
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        failing()
    assert torch.get_num_threads() == before
    with computing_with(None):
        assert torch.get_num_threads() == before
