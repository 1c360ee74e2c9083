"""Cost by examples: the slope by hand, what is drawn, and the examples of each size."""

from pathlib import Path

import numpy as np
import pytest
from support.training import english_task, make_workspace

from adapter_stilts.jobs.training_data import load_training_data
from benchmarks import scaling


def rows(power: float) -> list[dict[str, float]]:
    return [
        {"examples": count, "tokens": 20 * count, "seconds": 0.01 * count**power, "tokens_per_second": 1.0}
        for count in (1_000, 4_000, 64_000)
    ]


@pytest.mark.parametrize("power", [1.0, 1.5])
def test_slope_is_the_power(power: float) -> None:
    assert scaling.slope(rows(power)) == pytest.approx(power, abs=1e-9)


def test_figure_names_every_size() -> None:
    svg = scaling.figure({"rows": rows(1.0), "slope": 1.0, "device": "cpu", "backbone": {"id": "tiny"}})
    assert "slope 1.000" in svg
    for shown in ("1,000", "4,000", "64,000", "10.0 s", "640.0 s"):
        assert f">{shown}" in svg


def test_a_sample_takes_all_examples_as_often_as_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_training_data(make_workspace(tmp_path, monkeypatch).job(english_task(tmp_path / "t", "t")))
    available = data.tasks[0].train.examples
    part = scaling.sample_of(data, 2 * available + 3).data.tasks[0]
    assert part.train.examples == 3 * available
    assert len(part.train_examples) == len(np.unique(part.train_examples)) == 2 * available + 3
