"""Adapters beside full STILTs: every intermediate task under every target, zero-shot in all languages.

    python -m benchmarks.stilts_comparison --backbone embedded --hub-mirror hub --limit 1000 --test-limit 50 \
        --development-limit 300 --seeds 0 --full-over ud_deprel snli_devtest --out benchmarks/results/FILE.json

Runs live in a store (`--runs`), so an interrupted benchmark goes on where it was, and a finished run is never trained
again. The JSON holds the comparison (`adapter-stilts compare --json`), each run's record without its machine's paths,
and the command; a Markdown file of the same name holds the tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.cells import Cell, Intermediate, command_of, common_options, run_cells

TARGETS = ("udpos", "wikiann")
METHODS = ("bottleneck", "full")
INTERMEDIATES = ("ud_deprel", "chunking", "pmb_ccg", "pmb_semtag", "snli_devtest")


def cells(targets: Sequence[str], over: Mapping[str, Sequence[str]], seeds: Sequence[int]) -> Iterator[Cell]:
    """All cells, `over` naming each method's intermediates; those that matter most come first, so that a benchmark that
    was cut short has a table to show."""
    for seed in seeds:
        yield from (Cell(target, method, seed=seed) for target in targets for method in over)
        for method, tasks in over.items():
            for task in tasks:
                for target in targets:
                    yield Cell(target, method, (Intermediate(task),), seed=seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Run every cell, writing the table again after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stilts_comparison", description=__doc__.split("\n")[0])
    common_options(parser)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--over", nargs="*", default=list(INTERMEDIATES), help="intermediates under adapters")
    parser.add_argument("--full-over", nargs="*", default=list(INTERMEDIATES), help="intermediates of full STILTs")
    arguments = parser.parse_args(argv)
    command = command_of(
        parser,
        arguments,
        "stilts_comparison",
        ("limit", "test_limit", "development_limit"),
        ("seeds", "targets", "methods", "over", "full_over", "set", "target_set"),
    )
    over = {"bottleneck": arguments.over, "full": arguments.full_over}
    chosen = {method: over[method] for method in arguments.methods}
    run_cells(list(cells(arguments.targets, chosen, arguments.seeds)), arguments, "stilts_comparison", command)


if __name__ == "__main__":
    main()
