"""Masked language modelling: text without labels, of which training hides pieces and asks for them.

Which pieces are hidden, and what stands in their place, is drawn anew for each batch: Devlin et al. 2019,
https://arxiv.org/abs/1810.04805, section 3.1, as RoBERTa draws it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.kinds import labelled, texts
from adapter_stilts.tasks.kinds.contract import (
    Columns,
    EncodedSequence,
    HeadSpec,
    Inventory,
    Kind,
    WordPieceOptions,
)
from adapter_stilts.tasks.metrics import Array, Metric, percent_right
from adapter_stilts.tasks.sequences import MAX_PIECES, PORTION
from adapter_stilts.tasks.tokenizer import Tokenizer
from adapter_stilts.tasks.tokenizing import tokenize_texts

if TYPE_CHECKING:
    from torch import Tensor

    from adapter_stilts.engine.batches import Batch
    from adapter_stilts.model.backbone import Backbone
    from adapter_stilts.model.protocols import Model
    from adapter_stilts.tasks.encode import EncodedSplit

MASKED_SHARE = 0.15
# Of the pieces that are asked for: `<mask>`, another piece, and the rest as they are, so that the encoder cannot tell
# by `<mask>` alone which states are read.
HIDDEN_SHARE, REPLACED_SHARE = 0.8, 0.1


# --- the data -------------------------------------------------------------------------------------------------------


def encode(
    columns: Columns, tokenizer: Tokenizer, options: WordPieceOptions, inventory: Inventory | None = None
) -> Iterator[EncodedSequence]:
    """Sequences `<s> text </s>` of all texts, in order; a text over 510 pieces becomes the fewest windows, of about
    equal length, that hold all its pieces.

    There are no units: which pieces are asked for is drawn anew for each batch. A text that the tokenizer deletes
    altogether is read as `<unk>`. `word_piece` decides nothing here.
    """
    column = columns["text"]
    for first in range(0, len(column), PORTION):
        for offset, pieces in enumerate(tokenize_texts(tokenizer, column[first : first + PORTION])):
            for window in _windows(pieces or [tokenizer.unk_token_id]):
                ids = [tokenizer.bos_token_id, *window, tokenizer.eos_token_id]
                yield EncodedSequence(first + offset, ids, [], [])


def _windows(pieces: Sequence[int]) -> Iterator[Sequence[int]]:
    count = -(-len(pieces) // MAX_PIECES)
    borders = [len(pieces) * window // count for window in range(count + 1)]
    for begin, end in pairwise(borders):
        yield pieces[begin:end]


# --- drawing --------------------------------------------------------------------------------------------------------


def candidate_ids(split: EncodedSplit, tokenizer: Tokenizer, examples: np.ndarray | None = None) -> np.ndarray:
    """Sorted ids (C,) of all pieces of the split's examples (None: all) but the tokenizer's special ones (`<unk>`
    too)."""
    ids = split.ids
    if examples is not None:
        used = np.isin(np.arange(len(split.lengths)), split.sequences_of(examples))
        ids = ids[np.repeat(used, split.lengths)]
    return np.setdiff1d(ids, tokenizer.all_special_ids).astype(np.int64)


def prepare(split: EncodedSplit, tokenizer: Tokenizer, examples: np.ndarray) -> np.ndarray:
    """`candidate_ids` of the training examples: what is hidden, and what the head chooses among.

    Raises DataError where there are none."""
    candidates = candidate_ids(split, tokenizer, examples)
    if not len(candidates):
        raise DataError(f"{split.source}: found no piece that the backbone knows, accepted text to hide pieces of")
    return candidates


def draw(batch: Batch, prepared: np.ndarray, tokenizer: Tokenizer, rng: np.random.Generator) -> Batch:
    """The batch with 15% of its pieces asked for, each drawn on its own and at least one: of these 80% become `<mask>`,
    10% a random candidate, 10% stay.

    `pieces` (U,) are their positions and `targets["label"]` (U,) their indices in `prepared`, the candidates (sorted
    ids). The first and the last piece of a sequence, and pieces that are no candidates, are never drawn; U is 0 where
    there is no other. The same `rng` gives the same batch on every device.
    """
    import torch

    ids = batch.input_ids.cpu().numpy().copy()
    eligible = np.isin(ids, prepared)
    ends = np.cumsum(batch.layout.lengths)
    eligible[ends - np.asarray(batch.layout.lengths)] = False
    eligible[ends - 1] = False
    positions = _draw_positions(np.flatnonzero(eligible), rng)
    labels = np.searchsorted(prepared, ids[positions])
    fate = rng.random(len(positions))
    others = rng.choice(prepared, len(positions))
    hidden = fate < HIDDEN_SHARE
    replaced = ~hidden & (fate < HIDDEN_SHARE + REPLACED_SHARE)
    ids[positions[hidden]] = tokenizer.mask_token_id
    ids[positions[replaced]] = others[replaced]

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(batch.input_ids.device)

    return replace(
        batch,
        input_ids=tensor(ids),
        pieces=tensor(positions),
        unit_of_piece=None,
        pieces_of_unit=None,
        targets={"label": tensor(labels)},
        terms=len(labels),
    )


def _draw_positions(eligible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each with the share's probability; one of them at random where that leaves none."""
    drawn = eligible[rng.random(len(eligible)) < MASKED_SHARE]
    return drawn if len(drawn) or not len(eligible) else rng.choice(eligible, 1)


# --- head and answers -----------------------------------------------------------------------------------------------


def pretrained(backbone: Backbone) -> Mapping[str, Tensor] | None:
    """The checkpoint's own head; None where it has none."""
    from adapter_stilts.model.masked_lm_head import pretrained_head

    return pretrained_head(backbone)


def has_pretrained(backbone: Backbone) -> bool:
    """Whether the checkpoint has a head of its own, read without PyTorch."""
    from adapter_stilts.model.backbone import has_masked_lm_head

    return has_masked_lm_head(backbone)


def add_head(model: Model, name: str, spec: HeadSpec) -> None:
    """RoBERTa's head over the candidates, of the given weights or a fresh one."""
    from adapter_stilts.model.masked_lm_head import MaskedLMHead

    model.heads[name] = MaskedLMHead.build(model, spec.prepared, spec.weights)


def _right_pieces(predictions: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> Array:
    """(batches, 2): hidden pieces that were guessed, hidden pieces."""
    pairs = zip(predictions, answers, strict=True)
    return np.array([(int((guessed == right).sum()), len(right)) for guessed, right in pairs], float)


MASKED_LM_KIND = Kind(
    name="masked_lm",
    options=WordPieceOptions,
    columns={"text": "text"},
    text_roles=("text",),
    take=texts.take,
    check=texts.check,
    encode=encode,
    prepare=prepare,
    draw=draw,
    pretrained=pretrained,
    has_pretrained=has_pretrained,
    shuffle=None,
    with_others=False,
    add_head=add_head,
    loss=labelled.loss,
    decode=labelled.decode,
    metrics={"accuracy": Metric("accuracy", "1", _right_pieces, percent_right)},
)
