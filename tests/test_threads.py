"""The number of threads: checked, and set for the time of a block."""

import os

import pytest
import torch

from adapter_stilts import threads
from adapter_stilts.errors import UsageError
from adapter_stilts.threads import computing_with, thread_count, usable_cores


def test_a_number_from_one_to_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    assert [thread_count(own) for own in (None, 1, 3)] == [None, 1, 3]
    for wrong in (0, -1, 4, 1.5, "2", True):
        with pytest.raises(UsageError, match=r"--threads: found .*, accepted a whole number from 1 to 3"):
            thread_count(wrong)


def test_cores_are_those_that_the_process_may_use() -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))


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
