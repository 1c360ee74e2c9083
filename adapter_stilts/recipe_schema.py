"""Strict models of recipe YAML: what `tune` wrote of a task, and the package's defaults.

A recipe file holds, by method and backbone, what differs from the fields' own defaults (`Recipe()`), and how it was
chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from adapter_stilts.schema import MethodName, Recipe, Strict, _as_tuple

# A task's recipes by method, and by backbone's name or `default`.
Recipes = dict[MethodName, dict[str, Recipe]]
Value = str | int | float | bool | None
Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=1)]
List = BeforeValidator(_as_tuple)


class StoredTrial(Strict):
    """The recipe fields that a trial set, and the English development score in percent that it reached under each seed
    (0 where its loss was not finite)."""

    set: dict[str, Value] = Field(min_length=1)
    development: Annotated[tuple[Percent, ...], List, Field(min_length=1)]

    @property
    def mean(self) -> float:
        """The mean over the seeds, in percent."""
        return fmean(self.development)


class Search(Strict):
    """How a recipe was found: the best of `trials` in their mean development `metric` over the `seeds`.

    `over` says for each searched field what was searched, `examples` is the number of English training examples of a
    trial, or `pieces` that of its training pieces (neither: all examples); `epochs` those of a trial. `date` is ISO
    8601, `command` what repeats the search, `results` a file with more of what the trials reached.
    """

    over: dict[str, str] = Field(min_length=1)
    examples: Count | None = None
    pieces: Count | None = None
    epochs: Count
    seeds: Annotated[tuple[int, ...], List, Field(min_length=1)]
    metric: str
    trials: Annotated[tuple[StoredTrial, ...], List, Field(min_length=1)]
    date: str | None = None
    command: str | None = None
    results: str | None = None

    @model_validator(mode="after")
    def _a_score_for_each_seed(self) -> Search:
        for trial in self.trials:
            if len(trial.development) != len(self.seeds):
                refused = f"a trial with {len(trial.development)} scores"
                accepted = f"one for each of {len(self.seeds)} seeds"
                raise PydanticCustomError("scores", accepted, {"found": refused})  # type: ignore[arg-type]
        return self

    @property
    def text(self) -> str:
        """What a reader of the recipe must know of where it comes from, on one line."""
        examples: Any = "all" if self.examples is None else self.examples
        amount = f"{self.pieces} English pieces" if self.pieces else f"{examples} English examples"
        best = max(self.trials, key=lambda trial: trial.mean)
        scores, several = best.development, len(self.seeds) > 1
        return (
            f"best of {len(self.trials)} trials over {'; '.join(f'{key} {space}' for key, space in self.over.items())} "
            f"({amount}, {self.epochs} epochs, seed{'s' if several else ''} {', '.join(map(str, self.seeds))}: "
            f"development {self.metric} {best.mean:.1f}"
            f"{f', {min(scores):.1f} to {max(scores):.1f}' if several else ''})"
        )


class StoredRecipe(Strict):
    """A recipe as a file has it: the fields in `set`, the others at their defaults; `tuning` is a search or a
    sentence."""

    set: Recipe
    tuning: Search | str | None = None

    @model_validator(mode="after")
    def _tuning_once(self) -> StoredRecipe:
        if self.set.tuning is not None:
            raise PydanticCustomError("tuning", "`tuning` beside `set`", {"found": "`tuning` inside of `set`"})
        return self

    @property
    def recipe(self) -> Recipe:
        """The whole recipe; its `tuning` is a sentence."""
        text = self.tuning.text if isinstance(self.tuning, Search) else self.tuning
        return self.set.model_copy(update={"tuning": text})

    def as_yaml(self) -> dict[str, Any]:
        """What the file holds: the learning rate, and whatever differs from the defaults."""
        content: dict[str, Any] = {"set": fields_said(self.set)}
        if isinstance(self.tuning, Search):
            content["tuning"] = self.tuning.model_dump(mode="json", exclude_none=True)
        elif self.tuning is not None:
            content["tuning"] = self.tuning
        return content


StoredRecipes = dict[MethodName, dict[str, StoredRecipe]]


class RecipeFile(Strict):
    """The recipes of one task; `task` is its name."""

    task: str
    recipes: StoredRecipes = Field(default_factory=dict)

    @property
    def by_method(self) -> Recipes:
        """The whole recipes by method and backbone."""
        return {method: whole(backbones) for method, backbones in self.recipes.items()}


class DefaultRecipes(Strict):
    """The package's recipes for tasks without their own: `kinds` for tasks of a kind, which go before `recipes`."""

    recipes: StoredRecipes
    kinds: dict[str, StoredRecipes] = Field(default_factory=dict)


def whole(stored: Mapping[str, StoredRecipe]) -> dict[str, Recipe]:
    """The whole recipes of one method by backbone."""
    return {key: one.recipe for key, one in stored.items()}


def fields_said(recipe: Recipe) -> dict[str, Any]:
    """The learning rate and whatever differs from the defaults, without `tuning`: what gives the recipe again."""
    default, values = Recipe().model_dump(mode="json"), recipe.model_dump(mode="json", exclude={"tuning"})
    fields = {key: value for key, value in values.items() if key == "learning_rate" or value != default[key]}
    if fields.get("batch_tokens") is not None:
        fields.pop("batch_examples", None)  # null beside a number of tokens need not be said
    return fields
