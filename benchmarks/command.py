"""The command that repeats a benchmark, for the files that others read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.machine import portable


def command_of(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    benchmark: str,
    amounts: Sequence[str],
    lists: Sequence[str],
) -> str:
    """The command that repeats a benchmark; the mirror stands as `hub`, an empty list where it is not the default."""
    parts = [f"python -m benchmarks.{benchmark}", f"--backbone {portable(arguments.backbone)}"]
    parts += ["--hub-mirror hub"] if arguments.hub_mirror else []
    for name in amounts:
        if getattr(arguments, name) is not None:
            parts.append(f"--{name.replace('_', '-')} {getattr(arguments, name)}")
    for name in lists:
        values = getattr(arguments, name)
        if values or parser.get_default(name):
            parts.append(" ".join([f"--{name.replace('_', '-')}", *(portable(str(value)) for value in values)]))
    return " ".join([*parts, f"--out benchmarks/results/{arguments.out.name}"])
