"""`tasks`: what there is to train on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from adapter_stilts.cli.options import JsonOption, accept, print_json
from adapter_stilts.progress import show
from adapter_stilts.tasks.catalog import all_tasks

if TYPE_CHECKING:
    from adapter_stilts.schema import Task

ROLES = ("intermediate", "target")


def tasks(
    role: Annotated[str | None, typer.Option(help="Only tasks that can be intermediate, or target.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the tasks.

    Example: adapter-stilts tasks --role intermediate
    """
    accept("--role", role, ROLES)
    listed = [_described(task) for task in all_tasks() if role in (None, task.role) or task.role == "both"]
    if as_json:
        print_json(listed)
        return
    table = Table(*listed[0])
    for row in listed:
        codes = row["languages"]
        cells = {**row, "languages": codes[0] if len(codes) == 1 else len(codes)}
        cells["dataset"] = row["dataset"] or "in the package"
        table.add_row(*map(str, cells.values()))
    show(table)


def _described(task: Task) -> dict[str, Any]:
    fields = ("name", "kind", "role", "knowledge", "granularity")
    return {
        **{field: getattr(task, field) for field in fields},
        "languages": list(task.data.languages),
        "dataset": task.data.dataset,
        "licence": task.licence,
    }
