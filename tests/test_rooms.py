"""Which module may know which: one direction, no circle, and no name with two meanings."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = "adapter_stilts"
ROOT = Path(__file__).parents[1] / PACKAGE
# A room may know those before it, from what a task is to what a study does.
ORDER = ("tasks", "jobs", "engine", "training", "studies")
# The same name in two rooms, where it means the same in both, or the room says what it is of.
SHARED_NAMES = {
    "arguments": "checks of any function's arguments, and with them those of train and tune (training)",
    "data": "cli.data is the command `data`, over tasks.data",
    "files": "files writes any, tasks.files has those that tasks read",
    "labels": "labels of a task, read (tasks) and checked (checking)",
    "leaks": "the same leaks, searched for (jobs) and stored (runs)",
    "predicting": "cli.predicting has the commands over engine.predicting",
    "rows": "rows of a table: read (readers), checked (checking), of results (analysis)",
    "texts": "kinds of task whose rows are texts, and users' files of them (documents)",
    "scoring": "the scores of labels (tasks), of a model in training (training), the commands (cli)",
}
# What computes with PyTorch; a record is read without it.
HEAVY = {"torch", "transformers", "adapters", "peft", "datasets"}


def modules() -> dict[str, Path]:
    """Every module of the package by its name, without the package's own in front."""
    by_name = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        by_name[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return by_name


def imports(node: ast.AST) -> Iterator[str]:
    """Full names that a module imports, wherever it does, but not for its types alone."""
    inside = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        inside = list(node.orelse)
    for child in inside:
        yield from imports(child)


def libraries(module: str) -> set[str]:
    """What a module imports of others, by the names of their packages."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    return {full.split(".")[0] for full in imports(tree)} - {*sys.stdlib_module_names, PACKAGE}


@cache
def graph() -> dict[str, set[str]]:
    """The modules of the package that each imports."""
    imported, known = {}, modules()
    for name, path in known.items():
        inside = set()
        for full in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if full.split(".")[0] == PACKAGE:
                inner = full.removeprefix(PACKAGE).removeprefix(".")
                inside.add(inner if inner in known else inner.rpartition(".")[0])
        imported[name] = inside - {name}
    return imported


def room(module: str) -> str:
    """The folder of a module; empty for those at the top."""
    return module.split(".")[0] if (ROOT / module.split(".")[0]).is_dir() else ""


def of_room(name: str) -> list[str]:
    return [module for module in graph() if room(module) == name]


def test_the_graph_is_seen() -> None:
    """Imports of modules and of names, at the top of a file and in a function; not those for types alone."""
    assert "engine.step" in graph()["training.trainer"]
    assert "studies.plan" in graph()["cli.studies"]
    assert "runs.store" not in graph()["training.checkpoint"]
    code = "import a\nfrom b import c\nif TYPE_CHECKING:\n    import d\nelse:\n    import e\ndef f():\n    import g.h\n"
    assert list(imports(ast.parse(code))) == ["a", "b.c", "e", "g.h"]
    for name in (*ORDER, "runs", "statistics"):
        assert len(of_room(name)) > 4, name


def circle_of(modules_imported: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first of them twice; empty where there is none."""
    try:
        TopologicalSorter(modules_imported).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_circle_of_modules() -> None:
    assert circle_of({"a": {"b"}, "b": {"a"}}) in (["a", "b", "a"], ["b", "a", "b"])
    assert circle_of(graph()) == []


def test_rooms_know_those_before_them() -> None:
    backward = {
        (module, other)
        for module, others in graph().items()
        for other in others
        if room(other) in ORDER and room(module) in ORDER[: ORDER.index(room(other))]
    }
    assert backward == set()


def test_statistics_know_numbers_alone() -> None:
    others = {other for module in of_room("statistics") for other in graph()[module] if room(other) != "statistics"}
    assert others <= {"errors"}
    assert set().union(*map(libraries, of_room("statistics"))) == {"numpy", "scipy"}


def at_the_top(module: str) -> set[str]:
    """Full names that a module imports when it is imported itself."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    return {
        full for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef) for full in imports(node)
    }


def test_runs_are_read_without_what_computes() -> None:
    """Neither a module of `runs`, nor one that it needs when it is imported, imports a library of models; what kinds do
    with tensors waits inside their functions."""
    waiting, seen = of_room("runs"), set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        inner = {full.removeprefix(f"{PACKAGE}.") for full in at_the_top(module) if full.startswith(f"{PACKAGE}.")}
        waiting += [name if name in modules() else name.rpartition(".")[0] for name in inner]
    assert len(seen) > 20
    assert {room(module) for module in seen} & {"engine", "training", "evaluation", "studies", "jobs"} == set()
    heavy = {module: {full.split(".")[0] for full in at_the_top(module)} & HEAVY for module in seen}
    assert {module: names for module, names in heavy.items() if names} == {}
    assert libraries("engine.step") == {"torch"}


def test_no_name_of_a_module_has_two_meanings() -> None:
    by_name = defaultdict(list)
    for module, path in modules().items():
        if path.name != "__init__.py":
            by_name[module.split(".")[-1]].append(module)
    assert {name: names for name, names in by_name.items() if len(names) > 1 and name not in SHARED_NAMES} == {}
    assert {name for name in SHARED_NAMES if len(by_name[name]) < 2} == set()
