"""Sequences of piece ids with the spans that are classified: the form that every kind encodes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Pieces between <s> and </s>: XLM-R has 512 positions.
MAX_PIECES = 510


@dataclass(frozen=True)
class EncodedSequence:
    """One input of the encoder.

    `example`: index of the example that it belongs to (a long sentence makes several sequences, in order);
    `input_ids`: piece ids with special tokens, at most 512; `starts`, `ends`: one span of positions `[start, end)` for
    each unit that is classified (a word of a tagging task, the `<s>` of a classification task), whose states are
    averaged.
    """

    example: int
    input_ids: Sequence[int]
    starts: Sequence[int]
    ends: Sequence[int]
