"""Every way to put intermediate knowledge under a target, beside full STILTs and the controls.

    python -m benchmarks.compositions --backbone embedded --hub-mirror hub --limit 600 --match-tokens 15000 \
        --test-limit 50 --development-limit 150 --seeds 0 --out benchmarks/results/FILE.json

Rows of every target: bottleneck adapters under every composition, over three intermediate tasks of equal size and over
controls; the recipes of X-STILTs (several tasks together, masked language modelling mixed in, intermediate data in
other languages); LoRA, DoRA and IA3 alone and stacked; and the full fine-tuning form of each. Runs live in a store
(`--runs`): an interrupted benchmark goes on where it was, and two processes with different `--methods` first share the
work.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from adapter_stilts.model.composition import PEFT_METHODS
from benchmarks.cells import Cell, Intermediate, Settings, command_of, common_options, run_cells

TARGETS = ("udpos", "wikiann")
INTERMEDIATES = ("ud_deprel", "pmb_semtag", "snli_devtest")
METHODS = ("bottleneck", "full", *PEFT_METHODS)
# A task whose training data exist in several languages, and those that it is trained in.
TRANSLATED = Intermediate("xnli", languages=("de", "es", "hi", "ru", "zh"))
MLM_SHARE = "0.2"

Row = tuple[tuple[Intermediate, ...], str | None, Settings]


def rows(method: str, tasks: Sequence[str], compositions: bool = True, recipes: bool = True) -> Iterator[Row]:
    """What lies under a target by one method, its composition and settings: nothing, each task alone, the other
    `compositions` and controls, and the `recipes` of X-STILTs."""
    singles = [(Intermediate(task),) for task in tasks]
    yield (), None, ()
    yield from ((own, None, ()) for own in singles)
    if compositions and method == "bottleneck":
        every = tuple(own for (own,) in singles)
        yield every, "fuse", ()
        yield from ((own, "continue", ()) for own in singles)
        yield (Intermediate(tasks[0], control="random"),), None, ()
        yield (Intermediate(tasks[0], control="shuffled"),), None, ()
        yield every, "fuse", (("fusion", "full"),)
        yield every, "merge", ()
    if recipes and method in ("bottleneck", "full"):
        yield (Intermediate("+".join(tasks)),), None, ()
        yield (Intermediate(tasks[-1], settings=(("mlm_share", MLM_SHARE),)),), None, ()
        yield (TRANSLATED,), None, ()


def cells(
    methods: Sequence[str],
    targets: Sequence[str],
    over: Sequence[str],
    peft_over: Sequence[str],
    seeds: Sequence[int],
    compositions: bool = True,
    recipes: bool = True,
) -> Iterator[Cell]:
    """All cells of the methods, in the order given."""
    for seed in seeds:
        for method in methods:
            tasks = peft_over if method in PEFT_METHODS else over
            for below, compose, settings in rows(method, tasks, compositions, recipes):
                for target in targets:
                    yield Cell(target, method, below, compose, settings, seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Run every cell, writing the table again after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compositions", description=__doc__.split("\n")[0])
    common_options(parser)
    parser.add_argument(
        "--match-tokens", type=int, help="pieces of each intermediate task; without it --limit examples"
    )
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--over", nargs="+", default=list(INTERMEDIATES), help="intermediate tasks")
    parser.add_argument("--peft-over", nargs="+", help="intermediate tasks of lora, dora and ia3; as --over")
    parser.add_argument("--without-compositions", action="store_true", help="leave out all but none, stack and recipes")
    parser.add_argument("--without-recipes", action="store_true", help="leave out the recipes of X-STILTs")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="methods, the first one first")
    arguments = parser.parse_args(argv)
    command = command_of(
        parser,
        arguments,
        "compositions",
        ("limit", "match_tokens", "test_limit", "development_limit"),
        ("seeds", "targets", "over", "peft_over", "methods", "set", "target_set"),
    )
    command += " --without-compositions" if arguments.without_compositions else ""
    command += " --without-recipes" if arguments.without_recipes else ""
    peft_over = arguments.peft_over or arguments.over
    chosen = arguments.methods, arguments.targets, arguments.over, peft_over, arguments.seeds
    todo = list(cells(*chosen, not arguments.without_compositions, not arguments.without_recipes))
    run_cells(todo, arguments, "compositions", command)


if __name__ == "__main__":
    main()
