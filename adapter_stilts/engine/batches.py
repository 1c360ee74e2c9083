"""From encoded examples to packed batches, and from a seed to the order in which they come."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapter_stilts.model.layout import PackedLayout, to_device
from adapter_stilts.tasks.encode import EncodedSplit


@dataclass(frozen=True)
class Batch:
    """Packed sequences, T pieces in all, with U units that the head `head` classifies.

    `input_ids`, `position_ids` (T,); `labels` (U,) label ids; `pieces` (P,) positions in the row of the pieces that
    units read, `unit_of_piece` (P,) which unit reads each, `pieces_of_unit` (U,) how many; P = U, and the latter two
    are None, where every unit reads one piece. `sequences` are indices into the split, in the order of the row.
    """

    head: str
    input_ids: Tensor
    position_ids: Tensor
    layout: PackedLayout
    pieces: Tensor
    unit_of_piece: Tensor | None
    pieces_of_unit: Tensor | None
    labels: Tensor
    sequences: np.ndarray

    @property
    def tokens(self) -> int:
        """Pieces in the batch, special tokens included; there is no padding."""
        return int(self.input_ids.shape[0])


def first_position(config: Any) -> int:
    """Position id of a sequence's first piece: XLM-R counts from the id of its padding on."""
    return int(config.pad_token_id) + 1


def pack(
    split: EncodedSplit, sequences: np.ndarray, head: str, first: int, device: torch.device | str = "cpu"
) -> Batch:
    """Pack the given sequences into one row, shortest first (so that near-equal lengths lie together).

    `head` is the head that its units are for, `first` the position id of a sequence's first piece.
    """
    lengths = split.lengths[sequences]
    order = np.argsort(lengths, kind="stable")
    sequences, lengths = sequences[order], lengths[order]
    units = np.diff(split.unit_offsets)[sequences]
    begin = np.cumsum(lengths) - lengths
    ids = split.ids[ranges(split.id_offsets[sequences], lengths)]
    unit_index = ranges(split.unit_offsets[sequences], units)
    shift = np.repeat(begin, units)
    starts, ends = split.starts[unit_index] + shift, split.ends[unit_index] + shift
    widths = ends - starts
    single = bool((widths == 1).all())
    device = torch.device(device)

    def tensor(array: np.ndarray) -> Tensor:
        return to_device(array, device)

    return Batch(
        head,
        tensor(ids),
        tensor(ranges(np.full(len(lengths), first), lengths)),
        PackedLayout.from_lengths(lengths.tolist(), device),
        tensor(starts if single else ranges(starts, widths)),
        None if single else tensor(np.repeat(np.arange(len(widths)), widths)),
        None if single else tensor(widths),
        tensor(split.labels[unit_index] if len(split.labels) else np.full(len(unit_index), -100)),
        sequences,
    )


def divide(batch: Batch, most: int) -> Iterator[Batch]:
    """The batch in parts of whole sentences of at most so many tokens, in order; itself where it fits.

    A sentence that alone has more makes a part of its own. Units stay with their sentence.
    """
    if batch.tokens <= most:
        yield batch
        return
    lengths = batch.layout.lengths
    ends = np.cumsum(lengths)
    first = 0
    while first < len(lengths):
        begin = int(ends[first] - lengths[first])
        last = max(first + 1, int(np.searchsorted(ends, begin + most, side="right")))
        yield _part(batch, first, last, begin, int(ends[last - 1]))
        first = last


def divide_evenly(batch: Batch, parts: int) -> Iterator[Batch]:
    """The batch in so many parts of whole sentences, in order, cut nearest to where their tokens would be equal; in
    fewer where there are fewer sentences."""
    if parts == 1:
        yield batch
        return
    ends = np.cumsum(batch.layout.lengths)
    wanted = np.arange(1, parts) * batch.tokens / parts
    cuts = [int(np.abs(ends - place).argmin()) + 1 for place in wanted]
    borders = sorted({0, *cuts, len(ends)})
    for first, last in itertools.pairwise(borders):
        begin = int(ends[first - 1]) if first else 0
        yield _part(batch, first, last, begin, int(ends[last - 1]))


def _part(batch: Batch, first: int, last: int, begin: int, end: int) -> Batch:
    """Sentences `first` to `last` of a batch, which have its tokens `begin` to `end`."""
    inside = slice(*(int(torch.searchsorted(batch.pieces, border)) for border in (begin, end)))
    units, unit_of_piece, pieces_of_unit = inside, None, None
    if batch.unit_of_piece is not None and batch.pieces_of_unit is not None:
        unit_of_piece = batch.unit_of_piece[inside]
        units = slice(int(unit_of_piece[0]), int(unit_of_piece[-1]) + 1) if len(unit_of_piece) else slice(0, 0)
        unit_of_piece, pieces_of_unit = unit_of_piece - units.start, batch.pieces_of_unit[units]
    return Batch(
        batch.head,
        batch.input_ids[begin:end],
        batch.position_ids[begin:end],
        PackedLayout.from_lengths(batch.layout.lengths[first:last], batch.input_ids.device),
        batch.pieces[inside] - begin,
        unit_of_piece,
        pieces_of_unit,
        batch.labels[units],
        batch.sequences[first:last],
    )


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """`starts[0], starts[0]+1, ... (lengths[0] of them), starts[1], ...`"""
    begin = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - begin, lengths)


def epoch_order(examples: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The examples in the order of that epoch: the same for every method and composition."""
    return np.random.default_rng([seed, epoch]).permutation(examples)


def cut_batches(
    split: EncodedSplit, examples: np.ndarray, batch_examples: int | None, batch_tokens: int | None
) -> list[np.ndarray]:
    """Cut ordered examples into batches of sequence indices: so many examples, or as many as fit into so many tokens.

    An example is never divided; one that alone exceeds `batch_tokens` makes a batch of its own.
    """
    sequences: dict[int, list[int]] = {int(example): [] for example in examples}
    for sequence in split.sequences_of(examples):
        sequences[int(split.example[sequence])].append(int(sequence))
    lengths = split.lengths
    batches: list[list[int]] = []
    filled = room = 0
    for example in examples:
        own = sequences[int(example)]
        tokens = int(lengths[own].sum())
        full = filled == batch_examples if batch_tokens is None else room + tokens > batch_tokens
        if not batches or full:
            batches.append([])
            filled = room = 0
        batches[-1].extend(own)
        filled, room = filled + 1, room + tokens
    return [np.array(batch) for batch in batches]


def group_steps(batches: Sequence[np.ndarray], accumulate: int) -> list[Sequence[np.ndarray]]:
    """`accumulate` batches an optimizer step; the last step of an epoch takes what is left."""
    return [batches[first : first + accumulate] for first in range(0, len(batches), accumulate)]


def inference_batches(split: EncodedSplit, sequences: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """The sequences sorted by length, in batches of at most `tokens` pieces."""
    lengths = split.lengths[sequences]
    order = np.argsort(lengths, kind="stable")
    filled, first = 0, 0
    for place, length in enumerate(lengths[order].tolist()):
        if filled and filled + length > tokens:
            yield sequences[order[first:place]]
            filled, first = 0, place
        filled += length
    if len(order):
        yield sequences[order[first:]]
