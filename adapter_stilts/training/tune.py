"""`tune`: a method's recipe for a task, by a stated number of trials on English development data."""

from __future__ import annotations

import datetime
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from adapter_stilts.arguments import kind, listed, seed_of, settings_of, whole_number
from adapter_stilts.engine.step import NotFinite
from adapter_stilts.errors import Complaint, ConfigError, StiltsError, UsageError
from adapter_stilts.jobs.refusals import check_development_limit
from adapter_stilts.jobs.request import Request
from adapter_stilts.jobs.resolve import resolve_recipe
from adapter_stilts.model.backbone import DEFAULT_BACKBONE, Backbone
from adapter_stilts.model.composition import BOTTLENECK_NAMES, METHODS, check_recipe
from adapter_stilts.progress import say
from adapter_stilts.recipe_schema import Search, StoredTrial
from adapter_stilts.runs.store import RunStore
from adapter_stilts.runs.tidy import tidy
from adapter_stilts.schema import Recipe, Task, override
from adapter_stilts.strict_yaml import parse_value
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.recipes import recipe_for
from adapter_stilts.training.api import run_request
from adapter_stilts.training.arguments import environment_of, request_fields, request_of
from adapter_stilts.training.environment import Environment

if TYPE_CHECKING:
    import optuna

# Without --search the learning rate alone is searched, from an eighth of the present recipe's to four times it: the
# same width for every method, so that none is tuned with more care than another.
NARROWEST, WIDEST = 1 / 8, 4.0
# The first trials are spread evenly over the space; only what is left is guided by their scores.
SPREAD_TRIALS = 5


@dataclass(frozen=True)
class Space:
    """The values of one recipe field: `choices`, or a range from `low` to `high` on a logarithmic scale, of which a
    field of `whole` numbers takes those."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False

    @property
    def text(self) -> str:
        """The values as a reader is told of them."""
        return ", ".join(self.choices) if self.choices else f"{self.typed(self.low)} to {self.typed(self.high)}"

    def spread(self, index: int, count: int) -> str | float:
        """Value number `index` (from 0) of so many that lie evenly over the space."""
        share = index / (count - 1) if count > 1 else 0.5
        if self.choices:
            return self.choices[round(share * (len(self.choices) - 1))]
        value = math.exp((1 - share) * math.log(self.low) + share * math.log(self.high))
        return min(max(value, self.low), self.high)

    def suggest(self, trial: optuna.trial.Trial) -> str:
        """The trial's value as it would be typed after `--set`."""
        if self.choices:
            return str(trial.suggest_categorical(self.key, self.choices))
        return self.typed(trial.suggest_float(self.key, self.low, self.high, log=True))

    def typed(self, value: float) -> str:
        """A value of a range as it would be typed after `--set`: two digits of it, which nobody can tell apart, or the
        nearest whole number in the range."""
        if self.whole:
            return str(min(max(round(value), math.ceil(self.low)), math.floor(self.high)))
        return f"{value:.2g}"


@dataclass(frozen=True)
class Attempt:
    """A trial under one seed: the English development score in percent that its run reached (0 where its loss was not
    finite: then `run` is empty, for there is none)."""

    seed: int
    development: float
    by_epoch: tuple[float, ...]
    seconds: float
    run: str


@dataclass(frozen=True)
class Trial:
    """The recipe fields that a trial set, and its mean development score over the seeds: a rate under which one of them
    learns nothing loses what that seed would have had."""

    settings: dict[str, str]
    development: float
    attempts: tuple[Attempt, ...]

    @property
    def finite(self) -> bool:
        """Whether a seed kept its loss finite."""
        return any(attempt.run for attempt in self.attempts)

    @property
    def stored(self) -> StoredTrial:
        """What a recipe file keeps of the trial."""
        values = {key: parse_value(text) for key, text in self.settings.items()}
        return StoredTrial(set=values, development=tuple(round(attempt.development, 3) for attempt in self.attempts))


@dataclass(frozen=True)
class Tuned:
    """A recipe and the trials that it is the best of; `search` says how it was found, and `recipe.tuning` says it in a
    sentence. A recipe file has it under `method` and `backbone`."""

    task: str
    method: str
    backbone: str
    recipe: Recipe
    trials: tuple[Trial, ...]
    search: Search

    @property
    def best(self) -> Trial:
        """The trial that the recipe comes from; of equal ones the earliest."""
        return _best(self.trials)


def tune(
    task: str | Path | Task,
    *,
    method: str = "bottleneck",
    trials: int = 5,
    search: Mapping[str, Any] | None = None,
    backbone: str | Path | Backbone = DEFAULT_BACKBONE,
    seeds: int | Sequence[int] = (0,),
    limit: int | None = None,
    development_limit: int | None = None,
    match_tokens: int | None = None,
    settings: Mapping[str, Any] | None = None,
    runs: RunStore | Path | str | None = None,
    mirror: Path | str | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Tuned:
    """Search a recipe with Optuna; each trial is a run without weights in the store, so an interrupted search goes on.

    `method` is what `train` takes; the recipe of houlsby, parallel or compacter is one of `bottleneck` that says so.
    `search` maps recipe fields to 'LOW:HIGH' (logarithmic), 'A,B,C' or a list of values; by default the learning rate,
    from an eighth of the present recipe's to four times it. `limit` is the number of English training examples of a
    trial, `match_tokens` instead that of its training pieces, `development_limit` that of the development examples that
    are scored after each epoch; `settings` replace fields that are not searched. The score is the selection metric on
    English development data, the mean over `seeds` (the first also seeds the search); test data are never read. Equal
    scores: the earlier trial. A seed whose loss is not finite counts as 0. `threads` are those of `train`.

    Raises UsageError for fewer than one trial or seed, or a field or range that cannot be searched; StiltsError where
    no trial kept its loss finite.
    """
    fields = request_fields(
        method=method, limit=limit, development_limit=development_limit, match_tokens=match_tokens, settings=settings
    )
    search, trials = settings_of("search", search), whole_number("--trials", trials) or 0
    seeds = [seed_of("--seed", seed) for seed in listed("--seed", seeds, (Integral,), "whole numbers from 0")]
    environment = environment_of(store=runs, mirror=mirror, device=device, threads=threads, keep="scores")
    check_development_limit(fields["development_limit"], fields["settings"])
    if method not in (*METHODS, *BOTTLENECK_NAMES):
        raise UsageError(f"--method: found {method!r}, accepted: {', '.join((*METHODS, *BOTTLENECK_NAMES))}")
    kind("task", task, (str, Path, Task), "a task: its name, its path or a Task object")
    task = task if isinstance(task, Task) else find_task(task)
    request = request_of([task], backbone, environment, fields).normalised()
    # As a setting, so that a trial may have another number.
    request = replace(request, settings=request.recipe_settings, development_limit=None)
    recipe = override(recipe_for(task, request.method, request.backbone.id), request.settings)  # type: ignore[arg-type]
    spaces = _checked_spaces(search, recipe, request)
    if trials < 1:
        raise UsageError(f"--trials: found {trials}, accepted: at least 1")
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seed: found {list(seeds)}, accepted: at least one, none twice")
    tidy(environment.store)

    def attempts(chosen: dict[str, str]) -> tuple[Attempt, ...]:
        tried = replace(request, settings={**request.settings, **chosen})
        return tuple(_attempt(replace(tried, seed=seed), environment) for seed in seeds)

    done = _search(spaces, trials, seeds[0], attempts)
    if not any(trial.finite for trial in done):
        raise StiltsError(f"{task.name}: found no finite loss in {trials} trials; search lower learning rates")
    best = _best(done)
    how = Search(
        over={space.key: space.text for space in spaces},
        examples=None if request.match_tokens else request.limit,
        pieces=request.match_tokens,
        epochs=recipe.epochs,
        seeds=tuple(seeds),
        metric=task.selection_metric,
        trials=tuple(trial.stored for trial in done),
        date=datetime.date.today().isoformat(),
    )
    tuned = override(recipe, {**best.settings, "tuning": how.text})
    return Tuned(task.name, request.method, request.backbone.id, tuned, tuple(done), how)


def _search(
    spaces: Sequence[Space], trials: int, seed: int, attempts: Callable[[dict[str, str]], tuple[Attempt, ...]]
) -> list[Trial]:
    """So many trials, the first ones spread over the spaces, the others where Optuna expects the best."""
    import optuna

    done: list[Trial] = []

    def objective(trial: optuna.trial.Trial) -> float:
        chosen = {space.key: space.suggest(trial) for space in spaces}
        tried = attempts(chosen)
        done.append(Trial(chosen, fmean(attempt.development for attempt in tried), tried))
        shown = ", ".join(f"{key} {value}" for key, value in chosen.items())
        say(f"trial {len(done)} of {trials}: {shown}: development {done[-1].development:.2f}")
        return done[-1].development

    # Its warning about a failed trial is a traceback; the error itself goes on to the caller.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for start in _spread(spaces, min(trials, SPREAD_TRIALS), seed):
        study.enqueue_trial(start)
    study.optimize(objective, n_trials=trials)
    return done


def _spread(spaces: Sequence[Space], trials: int, seed: int) -> list[dict[str, str | float]]:
    """So many trials that lie evenly over the spaces: several fields in different orders, so that they do not all
    rise together."""
    orders = [random.Random(f"{seed} {space.key}").sample(range(trials), trials) for space in spaces]
    orders[0].sort()
    return [
        {space.key: space.spread(order[index], trials) for space, order in zip(spaces, orders, strict=True)}
        for index in range(trials)
    ]


def _attempt(request: Request, environment: Environment) -> Attempt:
    """A trial under one seed; a loss that is not finite counts as 0."""
    try:
        run = run_request(request, environment)
    except StiltsError as error:
        # The trainer names the examples; what it names them for is the context.
        if not isinstance(error.__context__, NotFinite):
            raise
        say(str(error))
        return Attempt(request.seed, 0.0, (), 0.0, "")
    record = run.record
    by_epoch = tuple(epoch.scores[record.task.selection_metric] for epoch in record.history)
    return Attempt(record.seed, record.development, by_epoch, record.cost.seconds, run.name)


def search_spaces(search: Mapping[str, str] | None, recipe: Recipe) -> list[Space]:
    """The spaces that `search` names, or the default one around the recipe. Raises UsageError naming the field."""
    if not search:
        rate = recipe.learning_rate
        return [Space("learning_rate", low=rate * NARROWEST, high=rate * WIDEST)]
    return [_space(key, text, recipe) for key, text in search.items()]


def _space(key: str, text: str, recipe: Recipe) -> Space:
    low, colon, high = text.partition(":")
    if not colon:
        choices = tuple(choice.strip() for choice in text.split(","))
        for choice in choices:
            override(recipe, {key: choice})
        return Space(key, choices)
    whole = _is_whole(key)
    try:
        space = Space(key, low=float(low), high=float(high), whole=whole)
    except ValueError:
        space = Space(key)
    if not 0 < space.low < space.high < math.inf:
        raise UsageError(f"--search {key}: found {text!r}, accepted: LOW:HIGH with 0 < LOW < HIGH, or A,B,C")
    if whole and math.ceil(space.low) > math.floor(space.high):
        raise UsageError(f"--search {key}: found {text!r}, accepted a range with a whole number in it")
    return space


def _is_whole(key: str) -> bool:
    """Whether a field of the recipe is a whole number, if it is there at all."""
    field = Recipe.model_fields.get(key)
    return field is not None and field.annotation in (int, int | None)


def _checked_spaces(search: Mapping[str, str], recipe: Recipe, request: Request) -> list[Space]:
    """The spaces that are searched. Raises UsageError for a value that would be refused, before any other is tried."""
    with _as_search(search):
        spaces = search_spaces(search, recipe)
        for space in spaces:
            for value in space.choices or (space.typed(space.low), space.typed(space.high)):
                settings = {**request.settings, space.key: value}
                tried = resolve_recipe(request.tasks, request.method, "none", settings, request.backbone)
                check_recipe(tried, request.method, "none", 0, request.backbone)
    return spaces


@contextmanager
def _as_search(keys: Iterable[str]) -> Iterator[None]:
    """Tell what is wrong with a searched field of the option that it was typed after."""
    try:
        yield
    except UsageError as error:
        lines = error.lines
        for key in keys:
            lines = tuple(line.replace(f"--set {key}:", f"--search {key}:") for line in lines)
        raise ConfigError(Complaint("", 0, line) for line in lines) from None


def _best(trials: Sequence[Trial]) -> Trial:
    return max((trial for trial in trials if trial.finite), key=lambda trial: trial.development)
