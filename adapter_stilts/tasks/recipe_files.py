"""Recipes in files of their own: beside a user's task `my.yaml` is `my.recipes.yaml`, those of shipped tasks are in
`task_configs/recipes/`.

`tune` writes such a file whole. Recipes under `recipes:` in a task's YAML, which people write, stand beside them; the
two must not have one for the same method and backbone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from adapter_stilts import backbone_names
from adapter_stilts.errors import ConfigError, UsageError
from adapter_stilts.files import atomic_write_text
from adapter_stilts.locks import lock
from adapter_stilts.paths import is_file, shipped_configs
from adapter_stilts.recipe_schema import RecipeFile, Recipes, StoredRecipe
from adapter_stilts.schema import MethodName, Task
from adapter_stilts.strict_yaml import Complaints, Loader, complaint, line_of, load_yaml
from adapter_stilts.yaml_complaints import Location

__all__ = [
    "check_backbone_key",
    "check_room",
    "read_recipes",
    "recipe_path",
    "with_stored_recipes",
    "write_recipe",
]

_HEAD = """\
# Written by `adapter-stilts tune`, which writes it anew: comments do not stay.
# By method and backbone: the fields that differ from their defaults, and how they were chosen.
"""
_WIDTH = 120


def recipe_path(task_path: Path) -> Path:
    """Where the recipes of the task in a YAML file are, if it has any in a file of their own."""
    configs = shipped_configs()
    if task_path.parent.parent == configs and task_path.parent.name in ("intermediate", "target"):
        return configs / "recipes" / task_path.name
    return task_path.with_name(f"{task_path.stem}.recipes.yaml")


def read_recipes(path: Path, task: str) -> RecipeFile:
    """The checked recipe file of the task of that name; one without recipes where there is no file.

    Raises `UsageError` for what is there and no file, and `ConfigError`, a line '<file>:<line>: <key.path>: found ...,
    accepted ...' for each thing that is wrong.
    """
    if not is_file(path):
        if os.path.lexists(path):
            raise UsageError(f"{path}: found no file (a folder, a pipe, or a link to nothing), accepted a recipe file")
        return RecipeFile(task=task)
    stored = load_yaml(path, RecipeFile)
    complaints = Complaints()
    if stored.task != task:
        wrong = complaint(path, ("task",), f"found {stored.task}, accepted {task} (this file belongs to that task)")
        complaints.every.append(wrong)
    for method, backbones in stored.recipes.items():
        for key in backbones:
            complaints.gather(check_backbone_key, path, ("recipes", method, key), key)
    complaints.refuse()
    return stored


def check_backbone_key(path: Path, location: Location, key: str) -> None:
    """Raise `ConfigError` for a key of a recipe, at `location` in the file `path`, that names no backbone."""
    default = backbone_names.DEFAULT_KEY
    if key != default and not backbone_names.is_backbone_name(key):
        refused = f"{key!r}{backbone_names.hint(key, default)}"
        what = f"found {refused}, accepted {default}, {backbone_names.ACCEPTED}"
        raise ConfigError([complaint(path, location, what)])


def with_stored_recipes(task: Task) -> Task:
    """The task with the recipes of its recipe file beside those of its YAML.

    Raises `ConfigError` for a recipe file that is wrong, and for a method and backbone of which both have a recipe.
    """
    path = recipe_path(task.path)
    stored = read_recipes(path, task.name).by_method
    twice = []
    for method, backbones in stored.items():
        for key in backbones:
            if (same := _same_key(task.recipes, method, key)) is not None:
                where = f"{path}:{line_of(path, ('recipes', method, key))}"
                what = f"found a recipe here and in {where}, accepted one of the two"
                twice.append(complaint(task.path, ("recipes", method, same), what))
    if twice:
        raise ConfigError(twice)
    merged: Recipes = {method: dict(backbones) for method, backbones in task.recipes.items()}
    for method, backbones in stored.items():
        merged.setdefault(method, {}).update(backbones)
    return task.model_copy(update={"recipes": merged})


def check_room(task_path: Path, method: MethodName, backbone: str) -> None:
    """Raise `ConfigError` where a task's YAML has a recipe for the method and backbone, so that its recipe file may
    not get one."""
    key = _same_key(load_yaml(task_path, Task).recipes, method, backbone_names.recipe_key(backbone))
    if key is not None:
        what = f"found a recipe, accepted none where `tune` writes one ({recipe_path(task_path)}): remove it here first"
        raise ConfigError([complaint(task_path, ("recipes", method, key), what)])


def write_recipe(task: Task, method: MethodName, backbone: str, recipe: StoredRecipe, file: Path) -> Path:
    """Put a recipe into the recipe file of the task's YAML `file`, and return that file's path.

    Where there is no `file`, it is made as a copy of the task's own; the task's recipes go along where there is no
    recipe file either. A backbone's folder that is given by its bare name is the path ./name there. Files are written
    whole or not at all, and two processes that write at the same time keep each other's recipes.

    Raises `UsageError` where nothing can be written, `ConfigError` for a recipe file that is there and wrong.
    """
    yaml_path = file.resolve()
    path = recipe_path(yaml_path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(path.parent):
            is_new = not yaml_path.exists()
            source = recipe_path(task.path) if is_new and not os.path.lexists(path) else path
            stored = read_recipes(source, task.name)
            key = backbone_names.recipe_key(backbone)
            backbones = stored.recipes.get(method, {})
            key = next((name for name in backbones if backbone_names.same_backbone(name, key)), key)
            recipes = {**stored.recipes, method: {**backbones, key: recipe}}
            atomic_write_text(path, text_of(stored.model_copy(update={"recipes": recipes})))
            if is_new:  # after its recipes: a task that is there has them all
                atomic_write_text(yaml_path, task.path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise UsageError(f"--out: {file} cannot be written ({error.strerror}), accepted a writable place") from error
    return path


def text_of(stored: RecipeFile) -> str:
    """The file's text: YAML that reads back as the same recipes."""
    recipes = {
        method: {key: recipe.as_yaml() for key, recipe in backbones.items()}
        for method, backbones in stored.recipes.items()
    }
    content = {"task": stored.task, "recipes": recipes}
    return _HEAD + yaml.dump(
        content, Dumper=_Dumper, default_flow_style=None, sort_keys=False, allow_unicode=True, width=_WIDTH
    )


class _Dumper(yaml.SafeDumper):
    """Writes so that the strict `Loader` reads the same values: a text that it would take for a number is quoted.

    Collections of plain values are on one line each.
    """

    yaml_implicit_resolvers = Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _same_key(recipes: Recipes, method: MethodName, key: str) -> str | None:
    """The key under which recipes have one for that method and backbone."""
    return next((name for name in recipes.get(method, {}) if backbone_names.same_backbone(name, key)), None)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """For the time of the block no other process that asks has this folder, which stays when files in it are replaced
    and leaves no file of a lock behind."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(handle, folder)
        yield
    finally:
        os.close(handle)
