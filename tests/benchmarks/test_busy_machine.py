"""The benchmark beside busy processes: who takes part, and what is made of the rounds."""

import argparse
import os
from pathlib import Path

import psutil
import pytest

from benchmarks import busy_machine
from benchmarks.busy_machine import Contender, command, contenders, environment, load, others, ratio, rotated, summary
from benchmarks.measuring import Measured


def test_contenders_are_every_number_of_threads_and_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_machine, "usable_cores", lambda: 2)
    assert contenders("training") == [
        Contender("ours", "training"),
        Contender("ours_always_awake", "training", awake=True),
        Contender("ours_1_threads", "training", 1),
        Contender("ours_2_threads", "training", 2),
        Contender("adapter_trainer", "adapter_trainer"),
        Contender("adapter_trainer_1_threads", "adapter_trainer", 1),
    ]
    assert len(contenders("prediction")) == 4


def took(*speeds: float) -> list[Measured]:
    return [Measured(tokens=int(100 * speed), positions=0, seconds=100.0) for speed in speeds]


def test_ratios_are_within_a_round_and_the_best_is_by_median() -> None:
    result = summary(
        {
            "ours": took(4, 9, 6),
            "ours_1_threads": took(5, 5, 100),
            "ours_2_threads": took(8, 6, 6),
            "peer": took(2, 3, 1),
        }
    )
    assert result["tokens_a_second"] == {"ours": 6, "ours_1_threads": 5, "ours_2_threads": 6, "peer": 2}
    assert result["rounds"]["peer"] == [2, 3, 1]
    assert result["ratios"]["peer"] == [3.0, 2.0, 6.0]
    assert (result["best"], result["to_best"]) == ("ours_2_threads", [1.0, 0.5, 1.5])
    assert ratio([1, 2], [2, 1]) == [1.25, 0.5, 2.0]


def test_another_contender_is_first_in_each_round() -> None:
    assert [rotated(["a", "b", "c"], repeat) for repeat in (0, 1, 4)] == [["a", "b", "c"], *[["b", "c", "a"]] * 2]


def test_a_contender_starts_in_an_environment_that_says_nothing_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    with environment(awake=False):
        assert not {"OMP_NUM_THREADS", "GOMP_SPINCOUNT"} & os.environ.keys()
    with environment(awake=True):
        assert os.environ["GOMP_SPINCOUNT"] == "300000"
    assert (os.environ["OMP_NUM_THREADS"], os.environ["GOMP_SPINCOUNT"]) == ("1", "7")


def test_counting_processes_end_with_the_block() -> None:
    before = set(psutil.Process().children())
    with load(2):
        assert len(set(psutil.Process().children()) - before) == 2
    assert set(psutil.Process().children()) <= before


def test_an_idle_machine_is_waited_for_until_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([60.0, 30.0, 4.0, 80.0])
    monkeypatch.setattr(busy_machine.psutil, "cpu_percent", lambda interval: next(shares))
    assert others() == 0.04
    assert others(patience=0.0) == 0.8


def test_the_command_shows_no_path_of_this_machine() -> None:
    options = argparse.Namespace(
        backbone="/some/where/tiny",
        hub_mirror=Path("/here/mirror"),
        sentences_a_step=[16, 32],
        sentences=128,
        peer_sentences=64,
        rounds=3,
        busy=4,
        out=Path("/some/where/busy.json"),
    )
    assert command(options) == (
        "python -m benchmarks.busy_machine --backbone tiny --hub-mirror hub --sentences-a-step 16 32 --sentences 128 "
        "--peer-sentences 64 --rounds 3 --busy 4 --out benchmarks/results/busy.json"
    )
