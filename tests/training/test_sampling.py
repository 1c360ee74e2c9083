"""Which examples a run trains on: pieces instead of examples, several tasks mixed, one adapter and a head each."""

from collections.abc import Iterator
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from support.training import Workspace, english_task, make_workspace, pairs_task, random_split

from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.bundle import load_bundle
from adapter_stilts.errors import UsageError
from adapter_stilts.jobs.training_data import choose_examples, load_training_data
from adapter_stilts.model.parts import parts_of
from adapter_stilts.runs.manifest import read_manifest
from adapter_stilts.schema import Recipe, Task
from adapter_stilts.training.sampling import draw_epochs, mixing_counts

SIZES = st.lists(st.integers(1, 5_000), min_size=2, max_size=6)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_workspace(tmp_path_factory.mktemp("plan"), monkeypatch)


@pytest.fixture(scope="module")
def tasks(workspace: Workspace) -> list[Task]:
    """24 and 60 sentences, 16 text pairs."""
    folder = workspace.folder
    return [
        english_task(folder / "a", "a", shift=1),
        english_task(folder / "b", "b", shift=2, examples=60),
        pairs_task(folder / "c", "c"),
    ]


# --- so many pieces ---------------------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(3, 60), min_size=1, max_size=30),
    seed=st.integers(0, 99),
    share=st.floats(0.001, 1.0),
)
def test_so_many_pieces_with_the_fewest_examples_of_their_order(lengths: list[int], seed: int, share: float) -> None:
    split, order = random_split(lengths), np.random.default_rng(seed).permutation(len(lengths))
    tokens = max(1, round(share * sum(lengths)))
    chosen = choose_examples(split, None, tokens, seed)
    assert chosen.tolist() == sorted(order[: len(chosen)].tolist())
    assert sum(lengths[example] for example in chosen) >= tokens
    assert sum(lengths[example] for example in order[: len(chosen) - 1]) < tokens
    assert len(choose_examples(split, None, sum(lengths), seed)) == len(lengths)


def test_more_pieces_than_there_are() -> None:
    with pytest.raises(UsageError, match=r"^--match-tokens: found 36, accepted at most 35 \(by hand\)$"):
        choose_examples(random_split([5, 10, 20]), None, 36, 0)


def test_intermediates_of_equal_size_under_a_target(workspace: Workspace, tasks: list[Task]) -> None:
    """The number is the intermediates'; a run that stands on none takes it for itself."""
    target = english_task(workspace.folder / "t", "t")
    run = workspace.train(target, over=[str(task.path) for task in tasks[:2]], match_tokens=150)
    assert (run.record.match_tokens, run.record.data[0].examples) == (None, 24)
    for intermediate in run.record.over:
        below = workspace.store.find(intermediate.run).record
        longest = max(load_training_data(workspace.job(tasks[0])).tasks[0].train.lengths)
        assert below.match_tokens == 150
        assert 150 <= below.data[0].tokens < 150 + 40 + longest
        assert intermediate.label == f"{intermediate.task} (150 tokens)"
    alone = workspace.train(tasks[0], match_tokens=100)
    assert alone.record.match_tokens == 100
    assert alone.record.data[0].tokens >= 100
    with pytest.raises(UsageError, match=r"^--match-tokens: found 99999, accepted at most \d+ \(en-train\.conllu\)$"):
        workspace.train(tasks[0], match_tokens=99_999)


# --- several tasks ----------------------------------------------------------------------------------------------------


def shares_by_formula(examples: list[int], recipe: Recipe) -> list[float]:
    if recipe.mixing == "uniform":
        weights = [1.0] * len(examples)
    else:
        capped = [min(size, recipe.mixing_cap or size) for size in examples]
        weights = [size ** (1 / recipe.mixing_temperature if recipe.mixing == "temperature" else 1) for size in capped]
    return [weight / sum(weights) for weight in weights]


@given(
    examples=SIZES,
    batch=st.integers(1, 64),
    mixing=st.sampled_from(["proportional", "uniform", "temperature"]),
    cap=st.none() | st.integers(1, 6_000),
    temperature=st.floats(1, 20),
)
def test_steps_of_each_task_by_formula(
    examples: list[int], batch: int, mixing: Any, cap: int | None, temperature: float
) -> None:
    """They sum to one pass over all tasks, but for tasks whose share is less than one step, which get one."""
    recipe = Recipe(mixing=mixing, mixing_cap=cap, mixing_temperature=temperature)
    steps = [ceil(count / batch) for count in examples]
    shares = [share * sum(steps) for share in shares_by_formula(examples, recipe)]
    counts = mixing_counts(examples, steps, recipe)
    for count, share in zip(counts, shares, strict=True):
        assert max(1, floor(share - 1e-6)) <= count <= max(1, ceil(share + 1e-6))
    raised = sum(count == 1 and share < 1 for count, share in zip(counts, shares, strict=True))
    assert sum(steps) <= sum(counts) <= sum(steps) + raised
    assert min(counts) >= 1


@pytest.mark.parametrize(
    ("recipe", "counts"),
    [
        (Recipe(), [1, 9, 90]),
        (Recipe(mixing="uniform"), [34, 33, 33]),
        (Recipe(mixing_cap=900), [5, 48, 47]),
        (Recipe(mixing="temperature", mixing_temperature=2.0), [8, 22, 70]),
        (Recipe(mixing="temperature", mixing_temperature=1.0), [1, 9, 90]),
    ],
)
def test_steps_of_each_task_by_hand(recipe: Recipe, counts: list[int]) -> None:
    """Of 100 steps over 100, 900 and 9,000 examples; by temperature 2 as 10 : 30 : 94.87."""
    assert mixing_counts([100, 900, 9_000], [1, 9, 90], recipe) == counts
    assert mixing_counts([77], [3], recipe) == [3]


@pytest.mark.parametrize("settings", [{}, {"mixing": "uniform"}, {"mixing": "temperature", "epochs": "5"}])
def test_a_task_goes_on_where_it_stopped(workspace: Workspace, tasks: list[Task], settings: dict[str, str]) -> None:
    """Its steps over all epochs, one after the other, are whole passes over its examples, each exactly once."""
    job = workspace.job(tasks, settings={"epochs": "4", **settings})
    data = load_training_data(job)
    epochs = draw_epochs(data, job.recipe, job.seed)
    steps = [ceil(len(part.train_examples) / 8) for part in data.tasks]
    counts = mixing_counts([len(part.train_examples) for part in data.tasks], steps, job.recipe)
    for part, count in zip(data.tasks, counts, strict=True):
        assert [sum(step.part is part for step in epoch) for epoch in epochs] == [count] * job.recipe.epochs
        seen = [
            int(example)
            for epoch in epochs
            for step in epoch
            if step.part is part
            for batch in step.batches
            for example in dict.fromkeys(part.train.example[batch].tolist())
        ]
        size = len(part.train_examples)
        passes = [seen[first : first + size] for first in range(0, len(seen), size)]
        assert all(sorted(examples) == part.train_examples.tolist() for examples in passes[:-1])
        assert len(set(passes[-1])) == len(passes[-1])
        assert len(passes) < 2 or passes[0] != passes[1]
    order = [[step.part.head for step in epoch] for epoch in epochs]
    assert order[0] != order[1]
    assert [[step.part.head for step in epoch] for epoch in draw_epochs(data, job.recipe, job.seed)] == order
    assert [[step.part.head for step in epoch] for epoch in draw_epochs(data, job.recipe, 1)] != order


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bottleneck", "lora", "full"])
def test_one_adapter_and_a_head_for_each_task(workspace: Workspace, tasks: list[Task], method: str) -> None:
    job = workspace.job(tasks, method=method, settings={"batch_examples": "8"})
    names = [part.name for part in parts_of(build_model(job, load_training_data(job))) if part.trains]
    shared = ["backbone"] if method == "full" else ["adapter a_and_b_and_c"]
    assert names == [*shared, "head a", "head b", "head c"]
    run = workspace.execute(job)
    record = run.record
    assert (record.task.name, record.task.kind, record.task.metrics) == ("a+b+c", "multi_task", ("accuracy",))
    assert record.cost.steps == record.recipe.epochs * (3 + 8 + 2)
    last = record.history[-1].scores
    assert last.keys() == {"a.accuracy", "b.accuracy", "c.accuracy", "accuracy"}
    assert last["accuracy"] == pytest.approx(np.mean([last[f"{name}.accuracy"] for name in "abc"]), abs=1e-9)
    assert record.development == last["accuracy"]
    manifest = read_manifest(run.bundle)
    assert manifest.more_heads == {"b": ("A", "B", "C"), "c": ("same", "different")}
    heads = [path for path in run.bundle.rglob("*head*.safetensors") if load_file(path)]
    assert sorted(path.parent.name for path in heads) == ["a", "b", "c"]
    assert list(load_bundle(run.bundle, workspace.backbone)[0].heads) == ["a"]


@pytest.mark.parametrize(("method", "below"), [("bottleneck", ("a_and_b",)), ("full", ())])
def test_several_tasks_together_under_a_target(
    workspace: Workspace, tasks: list[Task], method: str, below: tuple[str, ...]
) -> None:
    """The target gets what they share, and none of their heads."""
    target = english_task(workspace.folder / "t", "t")
    over = "+".join(str(task.path) for task in tasks[:2])
    run = workspace.train(target, over=[over], method=method)
    assert [intermediate.task for intermediate in run.record.over] == ["a+b"]
    assert {part.name for part in run.record.parts} == {"backbone", "head t"} | (
        {f"adapter {name}" for name in (*below, "t")} if method == "bottleneck" else set()
    )
    assert read_manifest(run.bundle).more_heads == {}


def test_tasks_learn_together(workspace: Workspace, tasks: list[Task]) -> None:
    """Labels of a word differ by task, which one adapter with two heads can tell apart."""
    settings = {"epochs": "16", "reduction": "2", "learning_rate": "2e-2"}
    scores = workspace.train(tasks[:2], settings=settings).record.history[-1].scores
    assert min(scores["a.accuracy"], scores["b.accuracy"]) > 80


def test_what_is_mixed_is_refused_of_one_task(workspace: Workspace, tasks: list[Task]) -> None:
    with pytest.raises(
        UsageError, match=r"^--set mixing: decides nothing under bottleneck none, accepted with several"
    ):
        workspace.train(tasks[0], settings={"mixing": "uniform"})
    with pytest.raises(UsageError, match=r"^task a: found twice, accepted once among the tasks that train together$"):
        workspace.train([tasks[0], tasks[1], tasks[0]])
