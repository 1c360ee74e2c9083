"""Which recipe a task gets for a method and a backbone: its own, or one of the package's."""

from __future__ import annotations

from functools import lru_cache

from adapter_stilts import backbone_names
from adapter_stilts.paths import shipped_configs
from adapter_stilts.recipe_schema import DefaultRecipes, whole
from adapter_stilts.schema import MethodName, Recipe, Task
from adapter_stilts.strict_yaml import load_yaml

__all__ = ["default_recipes", "recipe_for"]


@lru_cache(maxsize=1)
def default_recipes() -> DefaultRecipes:
    """The package's own recipes, of `task_configs/recipes/defaults.yaml`."""
    return load_yaml(shipped_configs() / "recipes" / "defaults.yaml", DefaultRecipes)


def recipe_for(task: Task, method: MethodName, backbone_id: str) -> Recipe:
    """The task's recipe for the method on the backbone; else the task's `default`; else the package's: for the task's
    kind on the backbone, for any kind on the backbone, for any backbone."""
    package = default_recipes()
    candidates = (
        (task.recipes.get(method, {}), True),
        (whole(package.kinds.get(task.kind, {}).get(method, {})), False),
        (whole(package.recipes[method]), True),
    )
    for recipes, with_default in candidates:
        for key, recipe in recipes.items():
            if backbone_names.same_backbone(key, backbone_id):
                return recipe
        if with_default and backbone_names.DEFAULT_KEY in recipes:
            return recipes[backbone_names.DEFAULT_KEY]
    raise AssertionError(f"{method}: the package has no recipe for any backbone")
