"""Masking: BERT's proportions, places that may be drawn, and labels that point to what stood there."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import tiny_backbone_folder
from support.training import encoded_split, random_split, use_of

from adapter_stilts.engine.batches import pack
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.tasks.kinds.contract import EncodedSequence
from adapter_stilts.tasks.kinds.masked_lm import candidate_ids, draw

MASK = 499
TOKENIZER = SimpleNamespace(mask_token_id=MASK)


def close(count: int, total: int, share: float) -> bool:
    """Within four standard deviations of the binomial distribution: a false alarm in 16,000 seeds."""
    return abs(count - total * share) <= 4 * (total * share * (1 - share)) ** 0.5


def test_proportions_are_those_of_bert() -> None:
    split = random_split([102] * 500)
    batch = pack(split, np.arange(500), use_of("text", "masked_lm"), 2)
    candidates = np.unique(split.ids[split.ids > 3])
    masked = draw(batch, candidates, TOKENIZER, np.random.default_rng(0))
    before, after = batch.input_ids.numpy(), masked.input_ids.numpy()
    drawn = masked.pieces.numpy()
    assert close(len(drawn), 50_000, 0.15)
    hidden, same = after[drawn] == MASK, after[drawn] == before[drawn]
    assert close(int(hidden.sum()), len(drawn), 0.8)
    # A random candidate is the piece itself once in as many draws as there are candidates.
    assert close(int(same.sum()), len(drawn), 0.1 + 0.1 / len(candidates))
    replaced = after[drawn][~hidden & ~same]
    assert set(replaced) <= set(candidates)
    assert abs(replaced.mean() - candidates.mean()) < 4 * candidates.std() / len(replaced) ** 0.5
    assert (candidates[masked.targets["label"].numpy()] == before[drawn]).all()
    untouched = np.setdiff1d(np.arange(len(before)), drawn)
    assert (after[untouched] == before[untouched]).all()
    # Every place between the special ones is drawn about equally often.
    counts = np.bincount(drawn % 102, minlength=102)
    assert counts[0] == counts[101] == 0
    assert all(close(int(count), 500, 0.15) for count in counts[1:101])


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(3, 12), min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_any_batch(lengths: list[int], seed: int) -> None:
    split = random_split(lengths, seed=seed % 1000, width=2)
    batch = pack(split, np.arange(len(lengths)), use_of("text", "masked_lm"), 2)
    candidates = np.unique(split.ids[split.ids > 3])
    masked = draw(batch, candidates, TOKENIZER, np.random.default_rng(seed))
    again = draw(batch, candidates, TOKENIZER, np.random.default_rng(seed))
    drawn = masked.pieces.tolist()
    assert len(drawn) >= 1
    assert drawn == sorted(set(drawn))
    special = {position for position, id_ in enumerate(batch.input_ids.tolist()) if id_ in (0, 2)}
    assert not special & set(drawn)
    assert candidates[masked.targets["label"].numpy()].tolist() == batch.input_ids[masked.pieces].tolist()
    assert (masked.input_ids.tolist(), drawn) == (again.input_ids.tolist(), again.pieces.tolist())
    assert (masked.unit_of_piece, masked.pieces_of_unit) == (None, None)
    assert masked.layout is batch.layout


def test_special_pieces_are_no_candidates_and_never_drawn(tmp_path: Path) -> None:
    """`<unk>` and `<mask>` as typed in a text, `</s>` within one, and a piece that is not asked for."""
    tokenizer = load_backbone(str(tiny_backbone_folder(tmp_path / "tiny"))).tokenizer
    split = encoded_split([EncodedSequence(0, [0, 3, 499, 2, 1, 20, 20, 7, 2], [], [])], [[]])
    assert candidate_ids(split, tokenizer).tolist() == [7, 20]
    batch = pack(split, np.array([0]), use_of("text", "masked_lm"), 2)
    seen: set[int] = set()
    for seed in range(100):
        masked = draw(batch, np.array([20]), TOKENIZER, np.random.default_rng(seed))
        seen.update(masked.pieces.tolist())
        assert set(masked.targets["label"].tolist()) == {0}
    assert seen == {5, 6}
    nothing = draw(batch, np.array([8]), TOKENIZER, np.random.default_rng(0))
    assert (nothing.pieces.tolist(), nothing.input_ids.tolist()) == ([], batch.input_ids.tolist())


@pytest.mark.parametrize("candidate_first", [True, False])
def test_first_and_last_piece_are_never_drawn(candidate_first: bool) -> None:
    """Whatever stands there, even a candidate."""
    ids = [20, 21, 20] if candidate_first else [0, 20, 2]
    split = encoded_split([EncodedSequence(0, ids, [], []), EncodedSequence(1, ids, [], [])], [[], []])
    batch = pack(split, np.arange(2), use_of("text", "masked_lm"), 2)
    positions = {
        position
        for seed in range(50)
        for position in draw(batch, np.array([20, 21]), TOKENIZER, np.random.default_rng(seed)).pieces.tolist()
    }
    assert positions == {1, 4}
