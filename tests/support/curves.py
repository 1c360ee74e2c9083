"""Logs of TensorBoard, read back by its own reader."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def curves_in(folder: Path) -> dict[str, dict[int, float]]:
    """Value by step of every curve; a step that is there twice is an error."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    found = {}
    for name in events.Tags()["scalars"]:
        points = [(own.step, own.value) for own in events.Scalars(name)]
        found[name] = dict(points)
        assert len(found[name]) == len(points), name
    return found
