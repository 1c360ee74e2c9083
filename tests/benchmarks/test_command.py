"""The command in a benchmark's file repeats what was asked."""

import argparse
from pathlib import Path

from benchmarks.command import command_of


def test_command_repeats_what_was_asked() -> None:
    asked = argparse.Namespace(
        backbone="embedded", hub_mirror=Path("x"), limit=5, test_limit=None, seeds=[0, 1], set=[]
    )
    asked.out = Path("somewhere/table.json")
    parser = argparse.ArgumentParser()
    for name, default in (("--seeds", [0]), ("--set", []), ("--tasks", ["ud_deprel"])):
        parser.add_argument(name, default=default)
    assert command_of(parser, asked, "tuning", ("limit", "test_limit"), ("seeds", "set")) == (
        "python -m benchmarks.tuning --backbone embedded --hub-mirror hub --limit 5 --seeds 0 1 "
        "--out benchmarks/results/table.json"
    )
    asked.tasks = []
    assert " --tasks --out" in command_of(parser, asked, "tuning", (), ("set", "tasks")), "without, there would be one"
    asked.tasks = ["/home/me/my.yaml", "tasks/other.yaml"]
    assert " --tasks my.yaml tasks/other.yaml " in command_of(parser, asked, "tuning", (), ("tasks",))
