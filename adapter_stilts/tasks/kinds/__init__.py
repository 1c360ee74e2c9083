"""Kinds of task: what is encoded, which head reads it, and what its answers mean.

A kind is a file of this package with a `Kind` (see `contract`). Adding one means adding the file, and a line here; code
that is not ours adds its own to `KINDS` before it names it in a task's YAML.
"""

from __future__ import annotations

from adapter_stilts.errors import UsageError
from adapter_stilts.tasks.kinds.classification import CLASSIFICATION_KIND
from adapter_stilts.tasks.kinds.contract import HeadSpec, Kind
from adapter_stilts.tasks.kinds.masked_lm import MASKED_LM_KIND
from adapter_stilts.tasks.kinds.multiple_choice import MULTIPLE_CHOICE_KIND
from adapter_stilts.tasks.kinds.tagging import TAGGING_KIND

__all__ = ["KINDS", "MIXED_IN", "HeadSpec", "Kind", "find_kind", "kind_of_head"]

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (TAGGING_KIND, CLASSIFICATION_KIND, MULTIPLE_CHOICE_KIND, MASKED_LM_KIND)
}
# What a recipe's `mlm_share` mixes in.
MIXED_IN = MASKED_LM_KIND


def find_kind(name: str) -> Kind:
    """The kind of that name, or a UsageError that lists the kinds there are."""
    if name not in KINDS:
        raise UsageError(f"kind: found {name!r}, accepted: {', '.join(KINDS)}")
    return KINDS[name]


def kind_of_head(head_type: str) -> Kind | None:
    """The first kind whose heads are of this type of `adapters`; None where no kind has such heads."""
    return next((kind for kind in KINDS.values() if kind.head_type == head_type), None)
