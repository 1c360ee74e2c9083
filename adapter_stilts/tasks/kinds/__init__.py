"""Kinds of task: what is encoded, which head reads it, and what its predictions mean.

A kind is one module with the functions of `Kind`; adding one means adding a file here and a line to `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapter_stilts.errors import UsageError
from adapter_stilts.tasks.kinds import classification, masked_lm, tagging
from adapter_stilts.tasks.metrics import CLASSIFICATION, TAGGING, Metric


@dataclass(frozen=True)
class Kind:
    """What a kind of task is made of.

    `columns`: required column roles of its data; `optional`: those it can do without; `labels_column`: the role that
    holds the labels, None for a kind without labels;
    `encode(columns, tokenizer, word_piece)`: sequences with the places whose states are classified;
    `add_head(model, name, labels, dropout)`: puts the prediction head on an `adapters` model;
    `metrics`: those that its tasks may name.
    """

    name: str
    columns: tuple[str, ...]
    optional: tuple[str, ...]
    labels_column: str | None
    encode: Callable[..., Any]
    add_head: Callable[..., None]
    per_word: bool
    metrics: Mapping[str, Metric]


KINDS: dict[str, Kind] = {
    "tagging": Kind("tagging", ("tokens", "labels"), (), "labels", tagging.encode, tagging.add_head, True, TAGGING),
    "classification": Kind(
        "classification",
        ("text", "label"),
        ("text_pair",),
        "label",
        classification.encode,
        classification.add_head,
        False,
        CLASSIFICATION,
    ),
    "masked_lm": Kind("masked_lm", ("text",), (), None, masked_lm.encode, masked_lm.add_head, False, CLASSIFICATION),
}


def find_kind(name: str) -> Kind:
    """The kind of that name, or a UsageError that lists the kinds there are."""
    if name not in KINDS:
        raise UsageError(f"kind: found {name!r}, accepted: {', '.join(KINDS)}")
    return KINDS[name]
