"""Which recipe a task gets: its own for the backbone, its default, the package's for its kind, the package's."""

from pathlib import Path

import pytest

from adapter_stilts.schema import Recipe, Task
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.recipes import DEFAULT_RECIPES, KIND_RECIPES, recipe_for

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


def task_of(folder: Path, kind: str = "tagging", recipes: str = "") -> Task:
    path = folder / f"{kind}.yaml"
    text = TASK.replace("KIND", kind).replace("COLUMNS", COLUMNS[kind])
    path.write_text(text + (f"recipes:\n{recipes}" if recipes else ""), encoding="utf-8")
    return find_task(str(path))


def test_a_task_goes_before_the_package(tmp_path: Path) -> None:
    udpos = find_task("udpos")
    assert recipe_for(udpos, "full", "FacebookAI/xlm-roberta-large") == udpos.recipes["full"]["default"]
    assert recipe_for(udpos, "full", "embedded") == udpos.recipes["full"]["embedded"]
    own = "  bottleneck:\n    default: {epochs: 7}\n    embedded: {epochs: 9}\n"
    assert recipe_for(task_of(tmp_path, recipes=own), "bottleneck", "embedded") == Recipe(epochs=9)
    default = "  bottleneck:\n    default: {epochs: 17}\n"
    # The task's own default goes before the package's recipe for that very backbone and kind.
    assert recipe_for(task_of(tmp_path, recipes=default), "bottleneck", "embedded") == Recipe(epochs=17)


def test_the_kind_goes_before_any_kind_and_the_backbone_before_any_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_kind = Recipe(epochs=21)
    monkeypatch.setitem(KIND_RECIPES, ("tagging", "head", "embedded"), of_kind)
    tagging, classification = task_of(tmp_path), task_of(tmp_path, "classification")
    assert recipe_for(tagging, "head", "embedded") == of_kind
    assert recipe_for(classification, "head", "embedded") == DEFAULT_RECIPES["head"]["embedded"]
    assert recipe_for(tagging, "head", "x") == DEFAULT_RECIPES["head"]["default"]
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
        recipes = [recipe_for(find_task(name), method, "embedded") for method in ("lora", "dora", "ia3")]  # type: ignore[arg-type]
        assert [own.learning_rate for own in recipes] == [0.0034, 0.0034, 0.04]
        assert {(own.epochs, own.batch_examples, own.warmup) for own in recipes} == {(5, 16, 0.1)}
