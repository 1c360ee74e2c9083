"""The package's own training and prediction, as they are timed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapter_stilts.engine.batches import Batch, cut_batches
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.drawing import reachable_ids
from adapter_stilts.engine.embedding_rows import reachable_rows
from adapter_stilts.engine.predicting import INFERENCE_TOKENS, predict_answers
from adapter_stilts.engine.step import Step
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData, TrainingPart
from adapter_stilts.model.compiled import is_compiled
from adapter_stilts.model.parts import count_parameters
from adapter_stilts.runs.record import Executed
from adapter_stilts.training.execution import Execution, make_step
from adapter_stilts.training.observers import ProgressBar, observed
from adapter_stilts.training.sampling import draw_epochs
from adapter_stilts.training.state import RandomState, TrainingState
from adapter_stilts.training.trainer import train_epoch
from benchmarks.measuring import Measured, Sample, Variant, now

EXECUTIONS = {
    "eager": Execution(step="eager", compile="off"),
    "captured": Execution(step="captured", compile="off"),
    "compiled": Execution(step="captured", compile="on"),
}


class WatchedStep:
    """A step that notes how long it waited for its batches: the time between two steps.

    A CUDA device works on while the next batch is packed; it has waited only where it is found idle afterwards, and
    then the whole time counts, the most it can have been.
    """

    def __init__(self, step: Step, device: str) -> None:
        self.step, self.cuda, self.batches_on = step, device == "cuda", step.batches_on
        self.waiting = 0.0
        self.done: torch.cuda.Event | None = None
        self.left = time.perf_counter()

    def start(self) -> None:
        """Begin an epoch."""
        self.waiting, self.done, self.left = 0.0, None, time.perf_counter()

    def __call__(self, batches: Sequence[Batch]) -> None:
        if self.done is None or self.done.query():
            self.waiting += time.perf_counter() - self.left
        self.step(batches)
        if self.cuda:
            self.done = torch.cuda.Event()
            self.done.record()
        self.left = time.perf_counter()

    def losses(self) -> list[float]:
        losses = self.step.losses()
        self.left = time.perf_counter()
        return losses

    def weights(self) -> list[torch.nn.Parameter]:
        return self.step.weights()

    def state(self) -> dict[str, Tensor]:
        return self.step.state()

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        self.step.check_state(state)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.step.load_state(state)

    def executed(self) -> Executed:
        return self.step.executed()

    def in_float32(self) -> AbstractContextManager[None]:
        return self.step.in_float32()

    def close(self) -> None:
        self.step.close()


def as_they_come(part: TrainingPart, tokens: int) -> list[np.ndarray]:
    """The part's examples in their order, in batches of at most so many pieces; one that alone has more is a batch."""
    batches = cut_batches(part.train, part.train_examples, None, tokens)
    return [np.array(list(dict.fromkeys(part.train.example[batch].tolist()))) for batch in batches]


def our_training(
    job: Job, data: TrainingData, timed: Sample, repeats: int, execution: Execution, device: str, stack: ExitStack
) -> Variant:
    """The package's own epoch; the optimizer lives on from the warm-up through all repeats, as the peers' does."""
    model = build_model(job, data, device)
    model.train()
    parameters = count_parameters(model)[0]  # of the whole word embedding, which full fine-tuning holds in part
    if job.method == "full":
        stack.enter_context(reachable_rows(model, reachable_ids(job, data)))
    steps = sum(len(draw_epochs(timed.data, job.recipe, repeat)[0]) for repeat in range(repeats + 1))
    step = WatchedStep(make_step(job, model, steps, 0, execution), device)
    stack.callback(step.close)

    def run(sample: Sample, repeat: int) -> Measured:
        state, started = TrainingState(step, RandomState(torch.device(device))), now(device)
        draws = draw_epochs(sample.data, job.recipe, repeat)[0]
        step.start()
        name = f"ours {job.method} {job.composition}"
        observers = [ProgressBar(name, len(draws), job.task.selection_metric)]
        with observed(observers, state):
            train_epoch(job, draws, state, observers)
        tokens = state.fitted.tokens
        return Measured(tokens, tokens, now(device) - started, step.waiting)

    return Variant(run, parameters, pads=False, compiled=lambda: is_compiled(model))


def our_inference(job: Job, data: TrainingData, device: str, precision: str, ordered: bool = False) -> Variant:
    """`predict_answers`, which sorts by length; `ordered`: a call for each batch of the sentences as they come."""
    model: Any = build_model(job, data, device)

    def run(sample: Sample, repeat: int) -> Measured:
        (part,) = sample.data.tasks
        parts = as_they_come(part, INFERENCE_TOKENS[device]) if ordered else [part.train_examples]
        tokens: list[int] = []
        started = now(device)
        for examples in parts:
            predict_answers(model, part.use, part.train, examples, tokens.append, precision)
        return Measured(sum(tokens), sum(tokens), now(device) - started)

    return Variant(run, 0, pads=False)
