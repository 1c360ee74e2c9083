"""Logs of TensorBoard, read back by its own reader."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def curves_in(folder: Path) -> dict[str, dict[int, float]]:
    """Value by step of every curve; a step that is there twice is an error."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    curves = {}
    for name in events.Tags()["scalars"]:
        points = [(scalar.step, scalar.value) for scalar in events.Scalars(name)]
        curves[name] = dict(points)
        assert len(curves[name]) == len(points), name
    return curves
