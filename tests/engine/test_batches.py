"""Batches: every example once an epoch, the token limit, one order for all methods, the row by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.training import encoded_split, english_task, make_workspace, use_of

from adapter_stilts.engine.batches import cut_batches, epoch_order, group_steps, inference_batches, pack
from adapter_stilts.jobs.training_data import TrainingData, load_training_data
from adapter_stilts.schema import Recipe
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.kinds.contract import EncodedSequence
from adapter_stilts.training.sampling import draw_epochs


def test_row_by_hand() -> None:
    """Shortest first; positions count from 2 in each sentence; spans move with their sentence."""
    split = encoded_split(
        [
            EncodedSequence(0, [0, 11, 12, 13, 2], [1, 3], [2, 4]),
            EncodedSequence(1, [0, 21, 2], [1], [2]),
            EncodedSequence(2, [0, 31, 32, 2], [1, 2], [2, 3]),
        ],
        [[0, 1], [2], [1, 0]],
    )
    batch = pack(split, np.array([0, 2, 1]), use_of("tags"), 2)
    assert batch.sequences.tolist() == [1, 2, 0]
    assert batch.input_ids.tolist() == [0, 21, 2, 0, 31, 32, 2, 0, 11, 12, 13, 2]
    assert batch.position_ids.tolist() == [2, 3, 4, 2, 3, 4, 5, 2, 3, 4, 5, 6]
    assert batch.pieces.tolist() == [1, 4, 5, 8, 10]
    assert batch.targets["label"].tolist() == [2, 1, 0, 0, 1]
    assert (batch.unit_of_piece, batch.pieces_of_unit, batch.tokens) == (None, None, 12)
    assert batch.layout.lengths == (3, 4, 5)


def test_spans_of_several_pieces_by_hand() -> None:
    split = encoded_split(
        [EncodedSequence(0, [0, 11, 12, 13, 2], [1, 3], [3, 4]), EncodedSequence(1, [0, 21, 2], [1], [2])],
        [[0, 1], [2]],
    )
    batch = pack(split, np.array([0, 1]), use_of("tags"), 2)
    assert batch.pieces.tolist() == [1, 4, 5, 6]
    assert batch.unit_of_piece is not None
    assert batch.unit_of_piece.tolist() == [0, 1, 1, 2]
    assert batch.pieces_of_unit is not None
    assert batch.pieces_of_unit.tolist() == [1, 2, 1]


def windows_split(lengths: list[list[int]]) -> EncodedSplit:
    """An example for each inner list, a window for each length in it."""
    sequences = [
        EncodedSequence(example, [0, *[5] * (length - 2), 2], [1], [2])
        for example, windows in enumerate(lengths)
        for length in windows
    ]
    return encoded_split(sequences, [[0]] * len(sequences))


LENGTHS = st.lists(st.lists(st.integers(3, 60), min_size=1, max_size=3), min_size=1, max_size=25)


@given(lengths=LENGTHS, seed=st.integers(0, 99), tokens=st.integers(1, 120), examples=st.integers(1, 9))
def test_every_example_once_and_within_the_limit(
    lengths: list[list[int]], seed: int, tokens: int, examples: int
) -> None:
    split = windows_split(lengths)
    order = epoch_order(np.arange(len(lengths)), seed, 0)
    flat = [sequence for example in order for sequence in np.flatnonzero(split.example == example)]
    by_examples = cut_batches(split, order, examples, None)
    by_tokens = cut_batches(split, order, None, tokens)
    for batches in (by_examples, by_tokens):
        assert [sequence for batch in batches for sequence in batch] == flat
    sizes = [len(set(split.example[batch])) for batch in by_examples]
    assert sizes == [examples] * (len(lengths) // examples) + [len(lengths) % examples] * (len(lengths) % examples > 0)
    totals = [int(split.lengths[batch].sum()) for batch in by_tokens]
    alone = [len(set(split.example[batch])) == 1 for batch in by_tokens]
    assert all(total <= tokens or single for total, single in zip(totals, alone, strict=True))
    firsts = [sum(lengths[int(split.example[batch[0]])]) for batch in by_tokens]
    assert all(total + first > tokens for total, first in zip(totals, firsts[1:], strict=False))


@given(lengths=LENGTHS, tokens=st.integers(1, 120))
def test_inference_batches_hold_each_sequence_once(lengths: list[list[int]], tokens: int) -> None:
    split = windows_split(lengths)
    sequences = np.arange(len(split.example))[::-1]
    batches = list(inference_batches(split, sequences, find_kind("tagging"), tokens))
    assert sorted(int(sequence) for batch in batches for sequence in batch) == list(range(len(sequences)))
    assert all(len(batch) == 1 or split.lengths[batch].sum() <= tokens for batch in batches)
    assert np.all(np.diff(np.concatenate([split.lengths[batch] for batch in batches])) >= 0)


def test_steps_take_what_is_left() -> None:
    batches = [np.array([index]) for index in range(7)]
    assert [[int(batch[0]) for batch in step] for step in group_steps(batches, 3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_order_by_seed_and_epoch() -> None:
    examples = np.array([4, 8, 15, 16, 23, 42])
    assert epoch_order(examples, 1, 2).tolist() == np.random.default_rng([1, 2]).permutation(examples).tolist()
    orders = {tuple(epoch_order(np.arange(30), seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_all_methods_see_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(tmp_path, monkeypatch)
    task = english_task(tmp_path / "data")
    under = {method: workspace.train(task, method=method) for method in ("bottleneck", "full")}
    seen = {}
    for method in ("bottleneck", "full"):
        for over in ([], [under[method]]):
            job = workspace.job(task, over, method=method, seed=5, limit=17)
            (data,) = load_training_data(job).parts
            epochs = draw_epochs(TrainingData((data,)), job.recipe, job.seed)
            seen[method, job.composition] = [
                [[batch.tolist() for batch in step.batches] for step in steps] for steps in epochs
            ]
            for steps in epochs:
                examples = [
                    int(data.train.example[sequence]) for step in steps for batch in step.batches for sequence in batch
                ]
                assert sorted(examples) == data.train_examples.tolist()
    plans = list(seen.values())
    assert len(plans) == 4
    assert all(plan == plans[0] for plan in plans)
    assert [len(batch) for step in plans[0][0] for batch in step] == [8, 8, 1]


def test_plan_accumulates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_workspace(tmp_path, monkeypatch).job(english_task(tmp_path / "data", examples=10))
    settings = Recipe(epochs=1, batch_examples=2, accumulate=2)
    (steps,) = draw_epochs(load_training_data(job), settings, 0)
    assert [[len(batch) for batch in step.batches] for step in steps] == [[2, 2], [2, 2], [2]]
