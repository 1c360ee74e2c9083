"""Which recipe a task gets for a method and a backbone: its own, or one of the package's."""

from adapter_stilts import backbone_names
from adapter_stilts.schema import MethodName, Recipe, Task

__all__ = ["DEFAULT_RECIPES", "KIND_RECIPES", "recipe_for"]

# How the learning rates of the embedded backbone were found: `benchmarks/results/tuning_embedded.json`.
_PEFT_TUNING = (
    "best of 5 trials on wikiann (300 English examples, 5 epochs, seed 0); other tasks without trials of their own"
)

# By method and backbone, for tasks of any kind.
DEFAULT_RECIPES: dict[str, dict[str, Recipe]] = {
    "bottleneck": {
        "default": Recipe(learning_rate=1e-4, epochs=10),
        "embedded": Recipe(learning_rate=4e-3, epochs=5, batch_examples=16),
    },
    "lora": {
        "default": Recipe(learning_rate=2e-4, epochs=10),
        "embedded": Recipe(learning_rate=0.0034, batch_examples=16, tuning=_PEFT_TUNING),
    },
    "dora": {
        "default": Recipe(learning_rate=2e-4, epochs=10),
        "embedded": Recipe(learning_rate=0.0034, batch_examples=16, tuning=_PEFT_TUNING),
    },
    # IA3 has few parameters and wants large steps: 3e-3 in Liu et al., 2022.
    "ia3": {
        "default": Recipe(learning_rate=3e-3, epochs=10),
        "embedded": Recipe(learning_rate=0.04, batch_examples=16, tuning=_PEFT_TUNING),
    },
    "full": {
        "default": Recipe(learning_rate=2e-5, epochs=5),
        "embedded": Recipe(learning_rate=2e-4, epochs=5, batch_examples=16),
    },
    "head": {
        "default": Recipe(learning_rate=1e-3, epochs=10),
        "embedded": Recipe(learning_rate=4e-3, epochs=5, batch_examples=16),
    },
}

# By kind, method and backbone: where they stand, they go before DEFAULT_RECIPES. Chosen on several small tasks for
# never ending in one label, then for their scores: `benchmarks/results/default_recipes_embedded.json`. Where most words
# are O, adapters that move fast at first push every word to O and never come back: hence the long warm-up.
KIND_RECIPES: dict[tuple[str, str, str], Recipe] = {
    ("tagging", "bottleneck", "embedded"): Recipe(
        learning_rate=1e-3,
        epochs=8,
        warmup=0.5,
        batch_examples=16,
        tuning=(
            "package default for tagging: chosen among rates of 0.0005 to 0.004, 5 and 8 epochs and warm-up of 0.1 and"
            " 0.5 as the best under which no run collapsed (names, 800 English examples, three seeds; chunks, parts of"
            " speech and relations, 300, two seeds)"
        ),
    ),
    ("classification", "bottleneck", "embedded"): Recipe(
        learning_rate=1e-3,
        epochs=5,
        batch_examples=16,
        tuning=(
            "package default for classification: best of 3 rates of 0.0005 to 0.002 on topics, SICK and SNLI (400 to"
            " 600 English examples, 5 epochs, seeds 0, 1); 0.004 collapsed on SNLI"
        ),
    ),
}


def recipe_for(task: Task, method: MethodName, backbone_id: str) -> Recipe:
    """The task's recipe for the method on the backbone; else the task's `default`; else the package's: for the task's
    kind on the backbone, for any kind on the backbone, for any backbone."""
    of_kind = {key[2]: recipe for key, recipe in KIND_RECIPES.items() if key[:2] == (task.kind, method)}
    candidates = (
        (task.recipes.get(method, {}), True),
        (of_kind, False),
        (DEFAULT_RECIPES[method], True),
    )
    for recipes, with_default in candidates:
        for key, recipe in recipes.items():
            if backbone_names.same_backbone(key, backbone_id):
                return recipe
        if with_default and backbone_names.DEFAULT_KEY in recipes:
            return recipes[backbone_names.DEFAULT_KEY]
    raise AssertionError(f"{method}: the package has no recipe for any backbone")
