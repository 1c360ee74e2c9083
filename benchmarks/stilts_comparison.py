"""Adapters beside full STILTs: every intermediate task under every target, zero-shot in all languages.

    python -m benchmarks.stilts_comparison --backbone embedded --hub-mirror hub --limit 1000 --test-limit 50 \
        --development-limit 300 --seeds 0 --full-over ud_deprel snli_devtest --out benchmarks/results/FILE.json

Runs live in a store (`--runs`), so an interrupted benchmark goes on where it was, and a finished run is never trained
again. The JSON holds the comparison (`adapter-stilts compare --json`), each run's record without its machine's paths,
and the command; a Markdown file of the same name holds the tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from benchmarks.cells import Cell, Intermediate, command_of, common_options, run_cells

TARGETS = ("udpos", "wikiann")
INTERMEDIATES = ("ud_deprel", "chunking", "pmb_ccg", "pmb_semtag", "snli_devtest")


def cells(
    targets: Sequence[str], over: Sequence[str], full_over: Sequence[str], seeds: Sequence[int]
) -> Iterator[Cell]:
    """All cells; those that matter most come first, so that a benchmark that was cut short has a table to show."""
    for seed in seeds:
        for target in targets:
            yield Cell(target, "bottleneck", seed=seed)
            yield Cell(target, "full", seed=seed)
        for method, tasks in (("bottleneck", over), ("full", full_over)):
            for task in tasks:
                for target in targets:
                    yield Cell(target, method, (Intermediate(task),), seed=seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Run every cell, writing the table again after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stilts_comparison", description=__doc__.split("\n")[0])
    common_options(parser)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--over", nargs="*", default=list(INTERMEDIATES), help="intermediates under adapters")
    parser.add_argument("--full-over", nargs="*", default=list(INTERMEDIATES), help="intermediates of full STILTs")
    arguments = parser.parse_args(argv)
    command = command_of(
        parser,
        arguments,
        "stilts_comparison",
        ("limit", "test_limit", "development_limit"),
        ("seeds", "targets", "over", "full_over", "set", "target_set"),
    )
    todo = list(cells(arguments.targets, arguments.over, arguments.full_over, arguments.seeds))
    run_cells(todo, arguments, "stilts_comparison", command)


if __name__ == "__main__":
    main()
