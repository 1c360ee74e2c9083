"""From encoded examples to packed batches, and from a seed to the order in which they come."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapter_stilts.model.layout import PackedLayout, to_device
from adapter_stilts.tasks.encode import EncodedSplit, ranges
from adapter_stilts.tasks.kinds.contract import IGNORED, HeadUse, Kind


@dataclass(frozen=True)
class Batch:
    """Packed sequences, T pieces in all, with U units that a head reads.

    `input_ids`, `position_ids` (T,); `targets` (U,) each, by name; `pieces` (P,) positions in the row of the pieces
    that units read, `unit_of_piece` (P,) which unit reads each, `pieces_of_unit` (U,) how many; P = U, and the latter
    two are None, where every unit reads one piece. `segment` (U,) numbers, from 0 in the order of the row, what units
    compete within (None: none do: `Kind.together`); `terms` is the number of units, or of segments: what the loss is
    the mean over. `sequences` are indices into the split, in the order of the row; `groups` how many of them, one after
    another, no division takes apart.
    """

    use: HeadUse
    input_ids: Tensor
    position_ids: Tensor
    layout: PackedLayout
    pieces: Tensor
    unit_of_piece: Tensor | None
    pieces_of_unit: Tensor | None
    targets: Mapping[str, Tensor]
    segment: Tensor | None
    terms: int
    sequences: np.ndarray
    groups: np.ndarray

    @property
    def head(self) -> str:
        """Name of the head that reads the units."""
        return self.use.name

    @property
    def units(self) -> int:
        """Number of units, U."""
        return int(self.pieces.shape[0] if self.pieces_of_unit is None else self.pieces_of_unit.shape[0])

    def loss(self, scores: Tensor) -> Tensor:
        """The kind's loss, in nats, summed over `terms`: scores (U, ...) are the head's."""
        assert self.use.kind.loss is not None
        return self.use.kind.loss(scores, self)

    @property
    def tokens(self) -> int:
        """Pieces in the batch, special tokens included; there is no padding."""
        return int(self.input_ids.shape[0])


def first_position(config: Any) -> int:
    """Position id of a sequence's first piece: XLM-R counts from the id of its padding on."""
    return int(config.pad_token_id) + 1


def pack(
    split: EncodedSplit, sequences: np.ndarray, use: HeadUse, first: int, device: torch.device | str = "cpu"
) -> Batch:
    """Pack the given sequences into one row, shortest first (so that near-equal lengths lie together), those of a group
    in their order.

    `use` is what its units are for, `first` the position id of a sequence's first piece. `sequences` hold all of an
    example, where its units compete.
    """
    groups = _groups(split, sequences, use.kind)
    order = np.argsort(_sums(split.lengths[sequences], groups), kind="stable")
    sequences, groups = sequences[ranges((np.cumsum(groups) - groups)[order], groups[order])], groups[order]
    lengths = split.lengths[sequences]
    units = np.diff(split.unit_offsets)[sequences]
    begin = np.cumsum(lengths) - lengths
    ids = split.ids[ranges(split.id_offsets[sequences], lengths)]
    unit_index = split.units_of(sequences)
    shift = np.repeat(begin, units)
    starts, ends = split.starts[unit_index] + shift, split.ends[unit_index] + shift
    widths = ends - starts
    single = bool((widths == 1).all())
    device = torch.device(device)

    def tensor(array: np.ndarray) -> Tensor:
        return to_device(array, device)

    compete = use.kind.together != "unit"
    # A group without a unit has nothing that competes: it is no segment.
    units_of_group = _sums(units, groups)
    segments = np.cumsum(units_of_group > 0) - 1
    names = split.targets or dict.fromkeys(use.kind.targets)
    return Batch(
        use,
        tensor(ids),
        tensor(ranges(np.full(len(lengths), first), lengths)),
        PackedLayout.from_lengths(lengths.tolist(), device),
        tensor(starts if single else ranges(starts, widths)),
        None if single else tensor(np.repeat(np.arange(len(widths)), widths)),
        None if single else tensor(widths),
        {
            name: tensor(np.full(len(unit_index), IGNORED) if values is None else values[unit_index])
            for name, values in names.items()
        },
        tensor(np.repeat(segments, units_of_group)) if compete else None,
        int((units_of_group > 0).sum()) if compete else len(unit_index),
        sequences,
        groups,
    )


def _groups(split: EncodedSplit, sequences: np.ndarray, kind: Kind) -> np.ndarray:
    """How many sequences, one after another, belong to one example, where units of its sequences compete; else 1 each.

    `sequences` are in the order of the split within an example."""
    if kind.together != "example":
        return np.ones(len(sequences), dtype=np.int64)
    borders = np.flatnonzero(np.diff(split.example[sequences], prepend=-1))
    return np.diff(np.append(borders, len(sequences)))


def _sums(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sums of the values of each group; groups have one or more."""
    return np.add.reduceat(values, np.cumsum(groups) - groups) if len(groups) else values[:0]


def divide(batch: Batch, most: int) -> Iterator[Batch]:
    """The batch in parts of whole groups (sentences, or all sequences of an example) of at most so many tokens, in
    order; itself where it fits.

    A group that alone has more makes a part of its own. Units stay with their sentence.
    """
    if batch.tokens <= most:
        yield batch
        return
    ends = np.cumsum(_sums(np.asarray(batch.layout.lengths), batch.groups))
    first, begin = 0, 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, begin + most, side="right")))
        yield _part(batch, first, last, begin, int(ends[last - 1]))
        first, begin = last, int(ends[last - 1])


def divide_evenly(batch: Batch, parts: int) -> Iterator[Batch]:
    """The batch in so many parts of whole groups, in order, cut nearest to where their tokens would be equal; in fewer
    where there are fewer groups."""
    if parts == 1:
        yield batch
        return
    ends = np.cumsum(_sums(np.asarray(batch.layout.lengths), batch.groups))
    wanted = np.arange(1, parts) * batch.tokens / parts
    cuts = [int(np.abs(ends - cut).argmin()) + 1 for cut in wanted]
    borders = sorted({0, *cuts, len(ends)})
    for first, last in itertools.pairwise(borders):
        begin = int(ends[first - 1]) if first else 0
        yield _part(batch, first, last, begin, int(ends[last - 1]))


def _part(batch: Batch, first: int, last: int, begin: int, end: int) -> Batch:
    """Groups `first` to `last` of a batch, which have its tokens `begin` to `end`."""
    pieces = slice(*(int(torch.searchsorted(batch.pieces, border)) for border in (begin, end)))
    units, unit_of_piece, pieces_of_unit = pieces, None, None
    if batch.unit_of_piece is not None and batch.pieces_of_unit is not None:
        unit_of_piece = batch.unit_of_piece[pieces]
        units = slice(int(unit_of_piece[0]), int(unit_of_piece[-1]) + 1) if len(unit_of_piece) else slice(0, 0)
        unit_of_piece, pieces_of_unit = unit_of_piece - units.start, batch.pieces_of_unit[units]
    ends = np.cumsum(batch.groups)
    sequences = slice(int(ends[first] - batch.groups[first]), int(ends[last - 1]))
    segment, terms = None, units.stop - units.start
    if batch.segment is not None:
        segment = batch.segment[units]
        segment = segment - (segment[0] if len(segment) else 0)
        terms = int(segment[-1]) + 1 if len(segment) else 0
    return Batch(
        batch.use,
        batch.input_ids[begin:end],
        batch.position_ids[begin:end],
        PackedLayout.from_lengths(batch.layout.lengths[sequences], batch.input_ids.device),
        batch.pieces[pieces] - begin,
        unit_of_piece,
        pieces_of_unit,
        {name: values[units] for name, values in batch.targets.items()},
        segment,
        terms,
        batch.sequences[sequences],
        batch.groups[first:last],
    )


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
        of_example = sequences[int(example)]
        tokens = int(lengths[of_example].sum())
        full = filled == batch_examples if batch_tokens is None else room + tokens > batch_tokens
        if not batches or full:
            batches.append([])
            filled = room = 0
        batches[-1].extend(of_example)
        filled, room = filled + 1, room + tokens
    return [np.array(batch) for batch in batches]


def group_steps(batches: Sequence[np.ndarray], accumulate: int) -> list[Sequence[np.ndarray]]:
    """`accumulate` batches an optimizer step; the last step of an epoch takes what is left."""
    return [batches[first : first + accumulate] for first in range(0, len(batches), accumulate)]


def inference_batches(split: EncodedSplit, sequences: np.ndarray, kind: Kind, tokens: int) -> Iterator[np.ndarray]:
    """The sequences sorted by length, groups whole, in batches of at most `tokens` pieces, or of one group."""
    groups = _groups(split, sequences, kind)
    lengths = _sums(split.lengths[sequences], groups)
    order = np.argsort(lengths, kind="stable")
    sequences, groups = sequences[ranges((np.cumsum(groups) - groups)[order], groups[order])], groups[order]
    ends = np.cumsum(groups)
    filled, first = 0, 0
    for begin, length in zip((ends - groups).tolist(), lengths[order].tolist(), strict=True):
        if filled and filled + length > tokens:
            yield sequences[first:begin]
            filled, first = 0, begin
        filled += length
    if len(order):
        yield sequences[first:]
