"""Where a training is: everything that it needs to go on as if it had never stopped, as one value.

A checkpoint holds a `TrainingState` whole: every field of it, and every field of `Fitted`, whatever they are. A new
field needs nothing but itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapter_stilts.engine.step import Step
from adapter_stilts.errors import StiltsError
from adapter_stilts.model.parts import Part
from adapter_stilts.model.tensors import check_alike
from adapter_stilts.runs.record import EpochScore, Executed
from adapter_stilts.runs.stored import first_problem
from adapter_stilts.trust import Amount, Count, Percent


class Stateful(Protocol):
    """What can be written down and put back. A state is tensors, and values that JSON can hold, by name."""

    def state(self) -> dict[str, Any]:
        """All of it; tensors may be those that it works with, and change with the next step."""

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise StiltsError, and change nothing, where `load_state` could not take this state."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Be as what gave this state was."""


class Fitted(BaseModel):
    """What training has come to: the score of every epoch, which one's weights are kept (0: untrained), and what it
    cost. `development` is the selected epoch's score, `development_labels` the number of distinct labels predicted
    there; `losses` are those, in nats, of the steps of the epoch that is under way, as far as they were asked for.
    What the model is made of, and how it was `executed` (None: not trained), is known at the end."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    history: list[EpochScore] = Field(default_factory=list)
    selected_epoch: Count = 0
    development: Percent = 0.0
    development_labels: Count | None = None
    steps: Count = 0
    tokens: Count = 0
    train_seconds: Amount = 0.0
    losses: list[float] = Field(default_factory=list)
    parts: list[Part] = Field(default_factory=list)
    trainable_parameters: Count = 0
    total_parameters: Count = 0
    executed: Executed | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Fitted:
        if self.selected_epoch > len(self.history):
            raise ValueError(f"selected_epoch: found {self.selected_epoch}, accepted up to {len(self.history)}")
        return self

    def state(self) -> dict[str, Any]:
        """As `Stateful.state`."""
        return self.model_dump(mode="json")

    def check_state(self, state: Mapping[str, Any]) -> None:
        """As `Stateful.check_state`: every field is there, and is of its type."""
        self._read(state)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """As `Stateful.load_state`."""
        for name, value in self._read(state):
            setattr(self, name, value)

    def _read(self, state: Mapping[str, Any]) -> Fitted:
        for name in type(self).model_fields:
            if name not in state:
                raise StiltsError(f"{name}: found nothing, accepted a field of every checkpoint")
        try:
            return type(self).model_validate_json(json.dumps(dict(state)), strict=True)
        except (TypeError, ValidationError) as error:
            raise StiltsError(first_problem(error) if isinstance(error, ValidationError) else str(error)) from None


class Best:
    """A copy of the trained weights at the best development score so far, in percent."""

    def __init__(self, weights: Sequence[torch.nn.Parameter]) -> None:
        self.weights, self.copies = list(weights), [weight.detach().clone() for weight in weights]
        self.score = -float("inf")

    @torch.no_grad()
    def improved(self, score: float) -> bool:
        """Note a score; true, and the weights are copied, where it is the best so far (the earliest among equals)."""
        if score <= self.score:
            return False
        self.score = score
        torch._foreach_copy_(self.copies, [weight.data for weight in self.weights])
        return True

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back."""
        torch._foreach_copy_([weight.data for weight in self.weights], self.copies)

    def state(self) -> dict[str, Any]:
        """As `Stateful.state`; nothing before the first score, when the copies are what training begins with."""
        if self.score == -float("inf"):
            return {}
        return {"score": self.score, **self._named_copies()}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """As `Stateful.check_state`."""
        if not state:
            return
        score = state.get("score")
        if not isinstance(score, float) or not 0 <= score <= 100:
            raise StiltsError(f"score: found {str(score)[:80]}, accepted percent")
        check_alike(self._named_copies(), state)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """As `Stateful.load_state`."""
        if state:
            self.score = state["score"]
            for name, copy in self._named_copies().items():
                copy.copy_(state[name])

    def _named_copies(self) -> dict[str, torch.Tensor]:
        return {f"weight.{index}": copy for index, copy in enumerate(self.copies)}


@dataclass(frozen=True)
class RandomState:
    """PyTorch's random numbers, on the CPU and on the device of the training where that is another."""

    device: torch.device

    def state(self) -> dict[str, Any]:
        """As `Stateful.state`."""
        cuda = {"cuda": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {}
        return {"cpu": torch.get_rng_state(), **cuda}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """As `Stateful.check_state`. A training may go on on another device than that on which it was cut off."""
        check_alike({name: now for name, now in self.state().items() if name == "cpu" or name in state}, state)
        try:
            torch.Generator().set_state(state["cpu"])
        except RuntimeError as error:
            raise StiltsError(f"cpu: found no random state ({error})") from None

    def load_state(self, state: Mapping[str, Any]) -> None:
        """As `Stateful.load_state`."""
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)


@dataclass
class TrainingState:
    """A training between two steps: `step` has the trained weights, the optimizer and the position in the schedule;
    `best` the best weights so far (None: the last epoch's stay); which examples come next follows from the number of
    steps. Every field is a `Stateful` or None."""

    step: Step
    random: RandomState
    fitted: Fitted = field(default_factory=Fitted)
    best: Best | None = None

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the seconds of the block as those of training."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.fitted.train_seconds += time.perf_counter() - started

    def take_losses(self) -> None:
        """Ask the step for the losses that it has not told yet, which waits for the device. Raises NotFinite."""
        self.fitted.losses += self.step.losses()

    def keep(self, score: float) -> None:
        """Note the development score of the epoch that was added to the history, in percent, and keep its weights: the
        last epoch's, or those of the best score."""
        if self.best is None or self.best.improved(score):
            self.fitted.selected_epoch, self.fitted.development = len(self.fitted.history), score

    def select(self) -> None:
        """Put the weights of the selected epoch into the model, after the last one."""
        if self.best is not None:
            self.best.restore()
        self.fitted.development_labels = self.fitted.history[self.fitted.selected_epoch - 1].labels

    def state(self) -> dict[str, Any]:
        """Tensors, and values that JSON can hold, each under the field's name, a dot and its name there."""
        return {f"{name}.{key}": value for name, part in self._parts().items() for key, value in part.state().items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there. Raises StiltsError, before anything has changed, for a state of another training."""
        parts = self._parts()
        states: dict[str, dict[str, Any]] = {name: {} for name in parts}
        for key, value in state.items():
            name, _, part_key = key.partition(".")
            if name not in states:
                raise StiltsError(f"{key}: found a state of what this training does not have")
            states[name][part_key] = value
        for name, part in parts.items():
            try:
                part.check_state(states[name])
            except StiltsError as error:
                raise StiltsError(f"{name}.{error}") from None
        if len(state["step.history"]) != state["fitted.steps"]:
            raise StiltsError(f"fitted.steps: found {state['fitted.steps']}, accepted the number of losses")
        for name, part in parts.items():
            part.load_state(states[name])

    def _parts(self) -> dict[str, Stateful]:
        parts = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: part for name, part in parts.items() if part is not None}
