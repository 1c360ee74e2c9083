"""Which candidate is best, by hand; what a call writes stands beside what others wrote."""

import json
from pathlib import Path

import pytest

from adapter_stilts.tasks.catalog import find_task
from benchmarks.default_recipes import SAMPLES, Outcome, key, read_before, standings, write


def outcome(task: str, rate: float, score: float, seed: int = 0, majority: float = 40.0, **others: object) -> Outcome:
    about = {
        "kind": "classification",
        "method": "bottleneck",
        "examples": 300,
        "epochs": 5,
        "warmup": 0.1,
        "run": "r",
        "seconds": 1.0,
    }
    return Outcome(
        **{**about, **others},
        task=task,
        learning_rate=rate,
        seed=seed,
        score=score,
        majority=majority,
        by_epoch=(score,),
    )


def test_a_candidate_that_collapsed_comes_behind_whatever_it_scores_elsewhere() -> None:
    ranked = standings(
        [
            outcome("a", 4e-3, 90), outcome("a", 4e-3, 40, seed=1), outcome("b", 4e-3, 90),
            outcome("a", 2e-3, 60), outcome("a", 2e-3, 80, seed=1), outcome("b", 2e-3, 45),
            outcome("a", 1e-3, 56), outcome("b", 1e-3, 50),
        ]
    )  # fmt: skip
    assert [(candidate.learning_rate, candidate.collapsed, candidate.runs) for candidate in ranked] == [
        (1e-3, 0, 2),
        (2e-3, 0, 3),
        (4e-3, 1, 3),
    ]
    # On what 0.001 and 0.002 both tried, which is seed 0: 56/60 and 50/50; 60/60 and 45/50.
    assert [candidate.share for candidate in ranked] == [
        pytest.approx((56 / 60 + 1) / 2),
        pytest.approx((1 + 45 / 50) / 2),
        None,
    ]
    assert ranked[1].scores == {"a": 70.0, "b": 45.0}
    assert ranked[1].lowest == {"a": 60, "b": 45}


def test_epochs_make_another_candidate_and_a_task_that_nobody_learnt_decides_nothing() -> None:
    ranked = standings(
        [
            outcome("a", 1e-3, 50), outcome("hard", 1e-3, 39),
            outcome("a", 1e-3, 70, epochs=8), outcome("hard", 1e-3, 40, epochs=8),
        ]
    )  # fmt: skip
    assert [(candidate.epochs, candidate.collapsed, candidate.share) for candidate in ranked] == [
        (8, 0, 1.0),
        (5, 0, pytest.approx(5 / 7)),
    ]
    assert set(ranked[0].scores) == {"a"}


def test_the_file_keeps_what_other_calls_wrote(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    assert read_before(path) == ([], [])
    first = [outcome("a", 1e-3, 50), outcome("a", 2e-3, 30)]
    write(path, ["one"], first, "embedded")
    commands, before = read_before(path)
    assert (commands, before) == (["one"], first)
    write(path, [*commands, "two"], [*before, outcome("t", 1e-3, 9, kind="tagging", majority=0.0)], "embedded")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert [
        (standing["kind"], standing["method"], len(standing["candidates"])) for standing in result["standings"]
    ] == [
        ("classification", "bottleneck", 2),
        ("tagging", "bottleneck", 1),
    ]
    assert (result["commands"], len(result["outcomes"])) == (["one", "two"], 3)
    assert len({key(earlier) for earlier in read_before(path)[1]}) == 3


def test_samples_are_tasks_of_their_kind() -> None:
    assert {kind: {find_task(sample.task).kind for sample in samples} for kind, samples in SAMPLES.items()} == {
        "tagging": {"tagging"},
        "classification": {"classification"},
    }
    assert [sample.name for sample in SAMPLES["tagging"]] == ["small_entities", "chunking", "udpos", "ud_deprel"]
