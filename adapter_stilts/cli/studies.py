"""`study`: plan and run a grid of trainings that answers one question."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from adapter_stilts.cli.options import (
    DeviceOption,
    JsonOption,
    MirrorOption,
    RunsOption,
    TensorboardOption,
    print_json,
    usable_device,
)
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.progress import quiet_libraries, say, show, show_lines
from adapter_stilts.threads import thread_count

if TYPE_CHECKING:
    from adapter_stilts.studies.estimate import Estimate
    from adapter_stilts.studies.plan import Node, Plan
    from adapter_stilts.studies.scheduler import Result

study = typer.Typer(no_args_is_help=True, help="Plan and run a grid of trainings that answers one question.")

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="A study's YAML file, or the name of a shipped one.")]
StudyBackboneOption = Annotated[
    str | None, typer.Option("--backbone", help="In place of the study's own.", show_default="the study's own")
]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Processes that train at the same time.")]


@study.command()
def plan(
    file: FileArgument,
    dot: Annotated[bool, typer.Option("--dot", help="Print the graph in Graphviz' language.")] = False,
    workers: WorkersOption = 1,
    backbone: StudyBackboneOption = None,
    runs: RunsOption = None,
    hub_mirror: MirrorOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a study needs: runs, what is done already, time, disk. Trains nothing.

    Example: adapter-stilts study plan quick --hub-mirror DIR
    """
    if dot and as_json:
        raise UsageError("--dot and --json: found both, accepted one of them")
    with quiet_libraries():
        from adapter_stilts.studies.plan import as_dot

        made = _plan(file, backbone, runs, hub_mirror, device)
        now, estimates = _look_ahead(made)
    if dot:
        print(as_dot(made))
    elif as_json:
        print_json(_as_json(made, now, estimates, workers))
    else:
        _show_plan(made, now, estimates, workers)


@study.command()
def run(
    file: FileArgument,
    workers: WorkersOption = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Threads of each worker on a CPU, at most as many as the cores that this process may use.",
            show_default="its share of the cores",
        ),
    ] = None,
    tensorboard: TensorboardOption = None,
    backbone: StudyBackboneOption = None,
    runs: RunsOption = None,
    hub_mirror: MirrorOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train and score what is to do. May be killed at any time: the same command goes on where it stopped.

    Several processes, on one machine or on several with a common folder of runs, may run the same study at once.

    Example: adapter-stilts study run quick --hub-mirror DIR --workers 2
    """
    threads = thread_count(threads)
    with quiet_libraries():
        from adapter_stilts.studies.scheduler import run_plan
        from adapter_stilts.training.execution import Execution

        execution = Execution(tensorboard=tensorboard)
        made = _plan(file, backbone, runs, hub_mirror, device)
        result = run_plan(made, workers, threads=threads, execution=execution)
    if as_json:
        ended = {"done": result.done, "elsewhere": result.elsewhere, "before": result.before, "failed": result.failed}
        print_json({"study": made.study.name, **ended})
    tell(made, result)


def _plan(file: str, backbone: str | None, runs: Path | None, mirror: Path | None, device: str | None) -> Plan:
    from adapter_stilts.studies.plan import make_plan
    from adapter_stilts.studies.reading import find_study

    return make_plan(find_study(file), runs, backbone=backbone, mirror=mirror, device=usable_device(device))


def tell(made: Plan, result: Result) -> None:
    """What was done, and what failed. Raises StiltsError where something did."""
    here, before = len(result.done), len(result.before)
    others = f", {len(result.elsewhere)} by another process" if result.elsewhere else ""
    say(f"{made.study.name}: {here} runs done now{others}, {before} before; they are in {made.store.folder}")
    for name, reason in result.failed.items():
        say(f"failed: {name}: {reason}")
    if result.failed:
        rest = f", {len(result.stopped)} that stand on them were not tried" if result.stopped else ""
        raise StiltsError(
            f"{made.study.name}: {len(result.failed)} of {len(made.nodes)} runs failed{rest}; run the same command "
            "again once the reasons above are gone"
        )


# --- what a plan says -------------------------------------------------------------------------------------------------


def show_plan(made: Plan, workers: int = 1) -> None:
    """Runs, what is done, time and disk, on standard output."""
    with quiet_libraries():
        now, estimates = _look_ahead(made)
    _show_plan(made, now, estimates, workers)


def _look_ahead(made: Plan) -> tuple[dict[str, Any], dict[str, Estimate]]:
    """The state of every run, and what those that are to do will need."""
    from adapter_stilts.studies.estimate import estimate
    from adapter_stilts.studies.plan import states

    now: dict[str, Any] = dict(states(made))
    return now, estimate(made, [name for name, state in now.items() if state == "to do"])


def _show_plan(made: Plan, now: dict[str, Any], estimates: dict[str, Estimate], workers: int) -> None:
    show(_table(made, now, estimates))
    print()
    show_lines(*_sums(made, now, estimates, workers))


def _table(made: Plan, now: dict[str, Any], estimates: dict[str, Estimate]) -> Table:
    """Runs by task, method and composition."""
    from adapter_stilts.studies.estimate import duration
    from adapter_stilts.studies.plan import titles_of

    titles = titles_of(made)
    rows: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, node in made.nodes.items():
        role = "target" if node.cells else "intermediate"
        rows[role, titles[name], node.job.method, _how(node)].append(name)
    table = Table("", "task", "method", "composition", title=f"{made.study.name}: {made.study.question}".rstrip(": "))
    for column in ("runs", "done", "to do", "time"):
        table.add_column(column, justify="right")
    # Intermediates first; within a task the order of the study.
    for key, names in sorted(rows.items(), key=lambda row: row[0][:1]):
        todo = [name for name in names if now[name] == "to do"]
        done = sum(now[name] == "done" for name in names)
        seconds = sum(estimates[name].seconds for name in todo)
        table.add_row(*key, str(len(names)), str(done), str(len(todo)), duration(seconds) if todo else "")
    return table


def _how(node: Node) -> str:
    control: str | None = node.job.control or next((cell.control for cell in node.cells if cell.control), None)
    how = node.cells[0].how if node.cells else node.job.composition
    return f"{how} ({control})" if control else how


def _sums(made: Plan, now: dict[str, Any], estimates: dict[str, Estimate], workers: int) -> list[str]:
    from adapter_stilts.studies.estimate import duration

    about = _numbers(made, now, estimates, workers)
    lines = [f"{about['runs']} runs for {about['cells']} cells; {about['done']} done, {about['to_do']} to do"]
    if about["to_do"]:
        hours = "GPU-hours" if made.device != "cpu" else "hours of computing"
        lines.append(
            f"about {duration(about['seconds'])} with {workers} worker{'s' if workers > 1 else ''} on {made.device} "
            f"({about['hours']:.1f} {hours}; the longest chain takes {duration(about['longest_seconds'])})"
        )
        lines.append(
            f"up to {_size(about['bytes'])} of weights while it runs, {_size(about['kept_bytes'])} kept "
            f"(keep: {made.study.keep})"
        )
        measured = about["measured"]
        rest = "" if measured == about["to_do"] else "; the speed of the others is from the package's benchmarks"
        lines.append(f"the speed of {measured} of {about['to_do']} was measured in {made.store.folder}{rest}")
    return lines


def _numbers(made: Plan, now: dict[str, Any], estimates: dict[str, Estimate], workers: int) -> dict[str, Any]:
    longest: dict[str, float] = {}
    for name, node in made.nodes.items():  # what lies underneath comes first
        run_seconds = estimates[name].seconds if name in estimates else 0.0
        longest[name] = run_seconds + max((longest[below] for below in node.over), default=0.0)
    seconds = sum(estimate.seconds for estimate in estimates.values())
    kept_bytes = sum(estimate.bytes for name, estimate in estimates.items() if _stays(made, name))
    return {
        "runs": len(made.nodes),
        "cells": sum(len(node.cells) for node in made.nodes.values()),
        "done": sum(state == "done" for state in now.values()),
        "to_do": len(estimates),
        "seconds": max(seconds / workers, max(longest.values(), default=0.0)),
        "longest_seconds": max(longest.values(), default=0.0),
        "hours": seconds / 3600,
        "bytes": sum(estimate.bytes for estimate in estimates.values()),
        "kept_bytes": kept_bytes,
        "measured": sum(estimate.measured for estimate in estimates.values()),
    }


def _stays(made: Plan, name: str) -> bool:
    keep = made.study.keep
    return keep == "all" or (keep == "adapters" and made.nodes[name].job.method != "full")


def _as_json(made: Plan, now: dict[str, Any], estimates: dict[str, Estimate], workers: int) -> dict[str, Any]:
    nodes = [
        {
            "run": name,
            "state": now[name],
            "over": list(node.over),
            "cells": [cell.label for cell in node.cells],
            "seconds": round(estimates[name].seconds, 1) if name in estimates else None,
        }
        for name, node in made.nodes.items()
    ]
    return {"study": made.study.name, **_numbers(made, now, estimates, workers), "nodes": nodes}


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
