"""Tensors of a fixed size for packed batches of any smaller one, filled by a single copy to the device.

What a recorded step reads must stay where it is. A batch is packed on the host, written into pinned memory behind one
another with everything else that the step reads, and copied in one transfer that the host does not wait for. What is
left of a capacity is filled with sentences that nothing reads: they attend to themselves alone, no unit points to them,
and no gradient comes from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from adapter_stilts.engine.batches import Batch
from adapter_stilts.model.layout import PackedLayout, sentence_spans
from adapter_stilts.tasks.kinds.contract import IGNORED, HeadUse

# Between powers of two stands one more, so that filling takes a third of a capacity at most (below 256 pieces, more).
CAPACITIES = (256, 384, 512, 768, 1_024, 1_536, 2_048, 3_072, 4_096, 6_144, 8_192, 12_288, 16_384)
# XLM-R's positions end there.
LONGEST = 512
_TARGET = "target."
# Transfers under way at a time, before the host waits for the oldest: the device never waits for the host.
TRANSFERS = 4


class Buffers:
    """Device tensors for so many pieces under a head, which every replay reads: `batch` is made of them; `terms` () is
    what the step's loss is divided by. `averaged` units read several pieces each."""

    def __init__(self, use: HeadUse, capacity: int, averaged: bool, device: torch.device) -> None:
        self.capacity, self.averaged = capacity, averaged
        self.compete = use.kind.together != "unit"
        # As many pieces are read as there are, so that the last layer has the others' shape. Where units are means of
        # pieces, one more of them takes what no unit reads.
        units = capacity + 1 if averaged else capacity
        self.most_units = units
        targets = {name: f"{_TARGET}{name}" for name in use.kind.targets}
        sizes = {"terms": 1, **dict.fromkeys(targets.values(), units)}
        sizes |= dict.fromkeys(("input_ids", "position_ids", "starts", "ends", "pieces"), capacity)
        if averaged:
            sizes |= {"unit_of_piece": capacity, "pieces_of_unit": units}
        if self.compete:
            sizes |= {"segment": units}
        ends = np.cumsum(list(sizes.values())).tolist()
        self.sections = {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
        self.flat = torch.zeros(ends[-1], dtype=torch.long, device=device)
        self.host = [_Transfer(self.flat) for _ in range(TRANSFERS if device.type == "cuda" else 1)]
        self.filled = 0

        parts = {name: self.flat[section] for name, section in self.sections.items()}
        self.terms = parts["terms"].squeeze(0)
        self.batch = Batch(
            use,
            parts["input_ids"],
            parts["position_ids"],
            PackedLayout((), device, (parts["starts"], parts["ends"])),
            parts["pieces"],
            parts.get("unit_of_piece"),
            parts.get("pieces_of_unit"),
            {name: parts[section] for name, section in targets.items()},
            parts.get("segment"),
            0,
            np.arange(0),
            np.arange(0),
        )

    def fill(self, batch: Batch, first: int, terms: int) -> Batch:
        """Copy a batch that lies on the host, and fill up. `first` is the position id of a sentence's first piece,
        `terms` what the loss of the whole step is divided by. Returns the batch as the device has it; on a CPU its
        layout knows the lengths, which attention needs there."""
        transfer = self.host[self.filled % len(self.host)]
        self.filled += 1
        lengths = (*batch.layout.lengths, *filling(self.capacity - batch.tokens))
        row = transfer.row()
        for name, (values, filler) in self._contents(batch, lengths, first, terms).items():
            section = row[self.sections[name]]
            section[:] = filler
            section[: len(values)] = values
        transfer.send(self.flat)
        if self.flat.is_cuda:
            return self.batch
        return replace(self.batch, layout=PackedLayout.from_lengths(lengths))

    def _contents(
        self, batch: Batch, lengths: Sequence[int], first: int, terms: int
    ) -> dict[str, tuple[np.ndarray, int | np.ndarray]]:
        """What each section begins with, and what fills it up: one value, or one for each position."""
        units, unread = batch.units, self.capacity
        starts, ends = sentence_spans(lengths)
        filled = [np.arange(first, first + length) for length in lengths[len(batch.layout.lengths) :]]
        # Unread units read a piece each: the gradients of many for one piece would wait for each other.
        contents: dict[str, tuple[np.ndarray, int | np.ndarray]] = {
            "terms": (np.array([terms]), 0),
            "input_ids": (batch.input_ids.numpy(), int(batch.input_ids[0])),
            "position_ids": (np.concatenate([batch.position_ids.numpy(), *filled]), 0),
            **{f"{_TARGET}{name}": (values.numpy(), IGNORED) for name, values in batch.targets.items()},
            "starts": (starts, 0),
            "ends": (ends, 0),
            "pieces": (batch.pieces.numpy(), np.arange(self.capacity)),
        }
        if self.averaged:
            of_piece, of_unit = batch.unit_of_piece, batch.pieces_of_unit
            contents["unit_of_piece"] = np.arange(units) if of_piece is None else of_piece.numpy(), unread
            contents["pieces_of_unit"] = np.ones(units, np.int64) if of_unit is None else of_unit.numpy(), 1
        if batch.segment is not None:
            # What no unit reads is one segment more than there can be of units.
            contents["segment"] = batch.segment.numpy(), self.most_units
        return contents


class _Transfer:
    """Host memory of a buffer's size, pinned where the device is CUDA, and when the device had last read it."""

    def __init__(self, like: Tensor) -> None:
        self.memory = torch.zeros(like.shape, dtype=like.dtype, pin_memory=like.is_cuda)
        self.read = torch.cuda.Event() if like.is_cuda else None

    def row(self) -> np.ndarray:
        """The memory, to be written: the device has read what was in it."""
        if self.read is not None:
            self.read.synchronize()
        return self.memory.numpy()

    def send(self, target: Tensor) -> None:
        """Begin to copy it to the device."""
        target.copy_(self.memory, non_blocking=True)
        if self.read is not None:
            self.read.record()


def filling(pieces: int) -> list[int]:
    """Lengths of the sentences that fill so many pieces."""
    return [LONGEST] * (pieces // LONGEST) + ([pieces % LONGEST] if pieces % LONGEST else [])


def capacity_for(tokens: int, capacities: Sequence[int] = CAPACITIES) -> int | None:
    """The smallest capacity that holds so many tokens; None where none does."""
    return next((capacity for capacity in sorted(capacities) if capacity >= tokens), None)
