"""Which recipe a task gets: its own for the backbone, its default, the package's for its kind, the package's."""

from pathlib import Path
from typing import get_args

import pytest

from adapter_stilts.recipe_schema import StoredRecipe
from adapter_stilts.schema import MethodName, Recipe, Task
from adapter_stilts.tasks import recipes
from adapter_stilts.tasks.catalog import all_tasks, find_task
from adapter_stilts.tasks.kinds import KINDS
from adapter_stilts.tasks.recipes import default_recipes, recipe_for

TASK = """\
name: mine
version: 1
kind: KIND
role: target
knowledge: syntactic
granularity: token
description: words
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
labels: [A, B]
data:
  dataset: some/thing
  columns: {COLUMNS}
  languages:
    en: en
"""
COLUMNS = {"tagging": "tokens: tokens, labels: tags", "classification": "text: text, label: label"}


def task_of(folder: Path, kind: str = "tagging", recipes_yaml: str = "") -> Task:
    path = folder / f"{kind}.yaml"
    text = TASK.replace("KIND", kind).replace("COLUMNS", COLUMNS[kind])
    path.write_text(text + (f"recipes:\n{recipes_yaml}" if recipes_yaml else ""), encoding="utf-8")
    return find_task(str(path))


def test_a_task_goes_before_the_package(tmp_path: Path) -> None:
    udpos = find_task("udpos")
    assert recipe_for(udpos, "full", "FacebookAI/xlm-roberta-large") == udpos.recipes["full"]["default"]
    assert recipe_for(udpos, "full", "embedded") == udpos.recipes["full"]["embedded"]
    recipes_yaml = "  bottleneck:\n    default: {epochs: 7}\n    embedded: {epochs: 9}\n"
    assert recipe_for(task_of(tmp_path, recipes_yaml=recipes_yaml), "bottleneck", "embedded") == Recipe(epochs=9)
    default = "  bottleneck:\n    default: {epochs: 17}\n"
    # The task's own default goes before the package's recipe for that very backbone and kind.
    assert recipe_for(task_of(tmp_path, recipes_yaml=default), "bottleneck", "embedded") == Recipe(epochs=17)


def test_the_kind_goes_before_any_kind_and_the_backbone_before_any_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_kind, package = Recipe(epochs=21), default_recipes()
    kinds = {**package.kinds, "tagging": {"head": {"embedded": StoredRecipe(set=of_kind)}}}
    monkeypatch.setattr(recipes, "default_recipes", lambda: package.model_copy(update={"kinds": kinds}))
    tagging, classification = task_of(tmp_path), task_of(tmp_path, "classification")
    assert recipe_for(tagging, "head", "embedded") == of_kind
    assert recipe_for(classification, "head", "embedded") == Recipe(learning_rate=4e-3, batch_examples=16)
    assert recipe_for(tagging, "head", "x") == Recipe(learning_rate=1e-3, epochs=10)
    assert recipe_for(tagging, "full", "x").learning_rate == 2e-5
    assert recipe_for(tagging, "lora", "x").learning_rate == 2e-4


@pytest.mark.parametrize(
    ("kind", "rate", "epochs", "warmup"), [("tagging", 1e-3, 8, 0.5), ("classification", 1e-3, 5, 0.1)]
)
def test_safe_defaults_of_the_embedded_backbone(
    tmp_path: Path, kind: str, rate: float, epochs: int, warmup: float
) -> None:
    recipe = recipe_for(task_of(tmp_path, kind), "bottleneck", "embedded")
    assert (recipe.learning_rate, recipe.epochs, recipe.warmup, recipe.batch_examples) == (rate, epochs, warmup, 16)
    assert recipe.tuning is not None
    assert recipe.tuning.startswith(f"package default for {kind}: ")


def test_published_runs_of_lora_dora_and_ia3_keep_their_rates() -> None:
    for name in ("udpos", "wikiann", "ud_deprel"):
        chosen = [recipe_for(find_task(name), method, "embedded") for method in ("lora", "dora", "ia3")]  # type: ignore[arg-type]
        assert [recipe.learning_rate for recipe in chosen] == [0.0034, 0.0034, 0.04]
        assert {(recipe.epochs, recipe.batch_examples, recipe.warmup) for recipe in chosen} == {(5, 16, 0.1)}


def test_the_package_has_a_recipe_of_every_method_for_any_backbone() -> None:
    package = default_recipes()
    assert set(package.recipes) == set(get_args(MethodName))
    assert all("default" in backbones for backbones in package.recipes.values())
    assert set(package.kinds) <= set(KINDS)


def test_the_sentences_of_recipes_that_were_searched() -> None:
    assert recipe_for(find_task("mrpc"), "full", "embedded").tuning == (
        "best of 4 trials over learning_rate 5e-06 to 0.00016 (50000 English pieces, 10 epochs, seeds 0, 1, 2: "
        "development accuracy 79.8, 79.4 to 80.4)"
    )
    assert recipe_for(find_task("wikiann"), "bottleneck", "embedded").tuning == (
        "best of 5 trials over learning_rate 0.0005 to 0.016 (300 English examples, 5 epochs, seed 0: "
        "development f1 58.0)"
    )
    # A task's file holds data, its recipes lie in a file of their own.
    assert all("\nrecipes:" not in task.path.read_text(encoding="utf-8") for task in all_tasks())
