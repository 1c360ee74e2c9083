"""Speed and time left, by a clock that is set by hand."""

import pytest
from rich.progress import Progress

from adapter_stilts import progress
from adapter_stilts.progress import Reporter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("before", "left"), [(0, 180), (60, 60)])
def test_lines_tell_the_speed_of_this_process(
    clock: list[float], capsys: pytest.CaptureFixture[str], before: int, left: int
) -> None:
    """Ten steps of 50 pieces in 20 seconds: what an earlier process did is done, and says nothing of the speed."""
    reporter = Reporter("run", 100, "steps", None)
    reporter.go_on_from(before)
    clock[0] += 20.0
    reporter.advance(10, tokens=500, loss=2.0)
    assert capsys.readouterr().err == f"run: {before + 10}/100 steps  loss 2.000  25 tokens/s  {left} s left\n"


def test_a_bar_tells_the_speed_of_this_process(clock: list[float]) -> None:
    bar = Progress(get_time=lambda: clock[0])
    reporter = Reporter("run", 100, "steps", bar)
    reporter.go_on_from(60)
    for _ in range(2):
        clock[0] += 20.0
        reporter.advance(10, tokens=500)
    (task,) = bar.tasks
    assert (task.completed, task.speed, task.time_remaining) == (80, 0.5, 40)
    assert task.fields["detail"] == "25 tokens/s"


def test_speed_is_by_the_seconds_that_tokens_took(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """20 seconds, of which 5 were training: the others scored and waited, and count for what is left."""
    reporter = Reporter("run", 100, "steps", None)
    reporter.advance(5, tokens=250, seconds=2.5)
    clock[0] += 20.0
    reporter.advance(5, tokens=250, seconds=2.5)
    assert capsys.readouterr().err == "run: 10/100 steps  100 tokens/s  180 s left\n"
