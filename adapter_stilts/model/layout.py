"""Where sentences lie in a packed row, and which of them attention pads together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

# Sentences of one padded group differ in length by at most this factor (plus a few tokens): a wider group wastes
# multiplications on padding, a narrower one wastes kernel launches.
GROUP_RATIO = 1.5
GROUP_SLACK = 4
CPU = torch.device("cpu")


@dataclass(frozen=True)
class AttentionGroup:
    """Consecutive sentences of near-equal length, padded to `length` inside attention only.

    `index` (count * length,) says which row of the pack fills each padded position (padding repeats row `start`);
    `inverse` (stop - start,) says which padded position holds each row; `mask` (count, 1, 1, length) is 0 or -inf; all
    three are None where every sentence is equally long, so that a view suffices.
    """

    start: int
    stop: int
    count: int
    length: int
    index: Tensor | None = None
    inverse: Tensor | None = None
    padding: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class PackedLayout:
    """Borders of the sentences in a packed row: their `lengths` in tokens, in the order in which they lie in it.

    Sorting a pack by length before packing gives few groups and little padding; any order is correct. Where `fixed` is
    given, these tensors are the spans, whatever the lengths: their values may change, as a recorded graph's do.
    """

    lengths: tuple[int, ...]
    device: torch.device = CPU
    fixed: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    @classmethod
    def from_lengths(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> PackedLayout:
        """Layout of sentences of the given lengths."""
        return cls(tuple(int(length) for length in lengths), torch.device(device))

    @cached_property
    def spans(self) -> tuple[Tensor, Tensor]:
        """Where each position's sentence begins and ends in the row, (T,) each; made when first asked for."""
        if self.fixed is not None:
            return self.fixed
        starts, ends = sentence_spans(self.lengths)
        return to_device(starts, self.device), to_device(ends, self.device)

    @cached_property
    def groups(self) -> tuple[AttentionGroup, ...]:
        """For the padded attention of a CPU; made when first asked for."""
        cumulative = np.cumsum([0, *self.lengths])
        cuts = _cut_groups(self.lengths)
        return tuple(_make_group(self.lengths, cumulative, first, last, self.device) for first, last in cuts)


def sentence_spans(lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Where each position's sentence begins and ends, for sentences that lie one after another."""
    ends = np.cumsum(lengths)
    return np.repeat(ends - lengths, lengths), np.repeat(ends, lengths)


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """The array as int64 on the device. Through pinned memory the host does not wait for the copy, nor for what the
    device does before it."""
    made = torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)


def _cut_groups(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Cut the sentences into runs `[first, last)` in which lengths stay within the group ratio."""
    cuts, first = [], 0
    shortest = longest = lengths[0]
    for index, length in enumerate(lengths):
        shortest, longest = min(shortest, length), max(longest, length)
        if longest > shortest * GROUP_RATIO + GROUP_SLACK:
            cuts.append((first, index))
            first, shortest, longest = index, length, length
    cuts.append((first, len(lengths)))
    return cuts


def _make_group(
    lengths: Sequence[int], cumulative: np.ndarray, first: int, last: int, device: torch.device | str
) -> AttentionGroup:
    group_lengths = np.asarray(lengths[first:last], dtype=np.int64)
    start, stop, longest = int(cumulative[first]), int(cumulative[last]), int(group_lengths.max())
    if (group_lengths == longest).all():
        return AttentionGroup(start, stop, len(group_lengths), longest)
    position = np.arange(longest)
    real = position[None, :] < group_lengths[:, None]
    index = np.where(real, (cumulative[first:last, None] - start) + position[None, :], 0).reshape(-1)
    mask = np.where(real, 0.0, -np.inf).astype(np.float32)[:, None, None, :]
    return AttentionGroup(
        start,
        stop,
        len(group_lengths),
        longest,
        torch.from_numpy(index).to(device),
        torch.from_numpy(np.flatnonzero(real.reshape(-1))).to(device),
        torch.from_numpy(np.flatnonzero(~real.reshape(-1))).to(device),
        torch.from_numpy(mask).to(device),
    )
