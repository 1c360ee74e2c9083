"""Texts that a run trained on and is scored on: how they are stored, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence

from adapter_stilts.runs.stored import Stored
from adapter_stilts.schema import SplitName
from adapter_stilts.trust import Count, TaskName, TextLanguage


class Leak(Stored):
    """Texts of one development or test split that a run trained on: `shared` of the split's `texts` (distinct, and long
    enough to be told from chance). `identical`: the split's rows are those of the training data, byte for byte."""

    task: TaskName
    language: TextLanguage
    split: SplitName
    texts: Count
    shared: Count
    identical: bool


def leak_line(leaks: Sequence[Leak]) -> str:
    """One line with the counts by language; empty where there are none."""
    return f"trained on texts that it is scored on: {', '.join(map(_phrase, leaks))}" if leaks else ""


def _phrase(leak: Leak) -> str:
    counts = [f"{leak.shared:,} of {leak.texts:,} texts"] if leak.shared else []
    counts += ["the training data itself"] if leak.identical else []
    return f"{leak.language} {leak.split} ({'; '.join(counts)})"
