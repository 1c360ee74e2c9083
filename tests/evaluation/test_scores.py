"""Scores as files: what older ones lack, whose they are, and what is no evaluation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.records import write_run

from adapter_stilts.errors import StiltsError
from adapter_stilts.evaluation.scores import SCORES, evaluations_of, read_scores
from adapter_stilts.runs.store import EVALUATIONS, Run


def rewritten(run: Run, changes: dict[str, Any], without: Sequence[str] = ()) -> Path:
    """The run's evaluation with other values in its file, and without some keys."""
    folder = run.folder / EVALUATIONS / "test"
    stored = {**json.loads((folder / SCORES).read_text()), **changes}
    (folder / SCORES).write_text(json.dumps({key: value for key, value in stored.items() if key not in without}))
    return folder


def test_the_mean_of_an_old_file_leaves_out_what_the_run_trained_on(tmp_path: Path) -> None:
    counts = {"en": 90, "de": 80, "nl": 40}
    run = write_run(tmp_path, "bottleneck", "none", counts, languages=("de",))
    old = {"mean_without_english": {"accuracy": 60.0}}, ("trained_languages", "mean_zero_shot")
    scores = read_scores(rewritten(run, *old), run)
    assert scores.trained_languages == ("de",)
    assert scores.mean_zero_shot == {"accuracy": 65.0}
    alone = write_run(tmp_path, "bottleneck", "none", {"en": 90, "de": 80}, languages=("en", "de"))
    assert read_scores(rewritten(alone, *old), alone).mean_zero_shot is None


@pytest.mark.parametrize(("key", "accepted"), [("run", "run-00"), ("task", "tags")])
def test_scores_of_another_run_or_task_are_not_this_ones(tmp_path: Path, key: str, accepted: str) -> None:
    run = write_run(tmp_path, "bottleneck", "none", 50)
    folder = rewritten(run, {key: "foreign"})
    with pytest.raises(StiltsError) as raised:
        read_scores(folder, run)
    assert str(raised.value) == f"{folder / SCORES}: {key}: found foreign, accepted {accepted}"


def test_what_a_kill_left_is_no_evaluation(tmp_path: Path) -> None:
    run = write_run(tmp_path, "bottleneck", "none", 50)
    for left in (".test.0a1b.partial", "empty"):
        (run.folder / EVALUATIONS / left).mkdir()
    (run.folder / EVALUATIONS / ".test.0a1b.partial" / SCORES).write_text("{")
    assert [folder.name for folder, _ in evaluations_of(run)] == ["test"]
