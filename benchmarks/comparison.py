"""The comparisons of one benchmark: training at one size of a step, and prediction."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from adapter_stilts.engine.predicting import INFERENCE_TOKENS
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.runs.store import Run
from adapter_stilts.schema import Task
from benchmarks.contenders import PREDICTIONS, SHAPES, Size, job_of, prediction_contenders, training_contenders
from benchmarks.hardware import matrix_rate, operations
from benchmarks.measuring import Contender, Sample, measure_group
from benchmarks.peers import peer_arguments, peer_settings
from benchmarks.report import ratios, summary
from benchmarks.samples import draw_examples, language_sample, make_sample, shuffled_examples

WARMUP_STEPS = 3
# Peers predict with a model of their own size whatever the step's; this one only completes their arguments.
PREDICTION_SIZE = Size(sentences=32)


@dataclass
class Comparison:
    """What all comparisons of one call share; `rates` remembers the machine's matrix rate of each precision."""

    options: argparse.Namespace
    mirror: Path | None
    base: Backbone
    task: Task
    runs: list[Run]
    data: TrainingData
    folder: str
    rates: dict[str, float] = field(default_factory=dict)

    def training(self, size: Size) -> dict[str, Any]:
        """All training variants at one size of a step."""
        options, split = self.options, self.data.tasks[0].train
        rows = size.rows(self._mean_length)
        examples = draw_examples(split, rows, options.steps)
        warm = make_sample(self.data, examples[: min(WARMUP_STEPS, options.steps) * rows])
        timed = make_sample(self.data, examples)
        groups = []
        for name in (name for name in SHAPES if name in options.variants):
            group: list[Contender] = []
            for precision in options.precisions:
                job, arguments = self._job(name, size, precision), self._arguments(precision, rows)
                group += training_contenders(name, job, self.data, timed, arguments, options)
            groups.append(group)
        return {
            "sentences_a_step": rows,
            "tokens_a_step": size.tokens,
            "steps": options.steps,
            "peers": peer_settings(job, arguments, options.steps),
            **self._compare(groups, warm, timed),
        }

    def prediction(self, name: str) -> dict[str, Any]:
        """`inference` or `languages`, by the job of `none`."""
        options, split = self.options, self.data.tasks[0].train
        job = self._job("none", PREDICTION_SIZE, "float32")
        codes: list[str] = []
        if name == "languages":
            timed, codes = language_sample(job, self.data, options.language_sentences)
        else:
            timed = make_sample(self.data, shuffled_examples(split)[: options.inference_sentences])
        part = timed.data.tasks[0]
        few = part.train_examples[: min(WARMUP_STEPS * (PREDICTION_SIZE.sentences or 1), len(part.train_examples))]
        arguments = self._arguments("float32", PREDICTION_SIZE.sentences or 1)
        contenders = prediction_contenders(name, job, self.data, arguments, options)
        return {
            "batch_tokens": INFERENCE_TOKENS[options.device],
            "languages": codes or [self.task.train_language],
            "peers": peer_settings(job, arguments, options.steps),
            **self._compare([contenders], make_sample(timed.data, np.asarray(few)), timed),
        }

    @property
    def _mean_length(self) -> float:
        return float(self.data.tasks[0].train.lengths.mean())

    def _job(self, name: str, size: Size, precision: str) -> Job:
        return job_of(name, self.task, self.base, self.runs, size, precision, self.mirror)

    def _arguments(self, precision: str, rows: int) -> dict[str, Any]:
        device = self.options.device
        arguments = peer_arguments(precision, rows, self._mean_length, INFERENCE_TOKENS[device], device)
        return {**arguments, "output_dir": self.folder}

    def _compare(self, groups: Sequence[Sequence[Contender]], warm: Sample, timed: Sample) -> dict[str, Any]:
        variants: dict[str, Any] = {}
        for contenders in groups:
            measured = measure_group(contenders, warm, timed, self.options.repeats, self.options.device)
            for name, result in measured.items():
                variants[name] = summary(
                    result, self._operations(result.contender), self._rate(result.contender.precision)
                )
        return {
            "sentences": len(timed.lengths_sorted),
            "tokens": sum(timed.lengths_sorted),
            "longest_sentence": timed.lengths_sorted[-1],
            "variants": variants,
            "ratios": ratios(variants),
        }

    def _operations(self, contender: Contender) -> int:
        passes = "inference" if contender.group in PREDICTIONS else SHAPES[contender.group].passes
        return operations(self.base.config, passes)

    def _rate(self, precision: str) -> float:
        if precision not in self.rates:
            self.rates[precision] = matrix_rate(self.base.config, self.options.device, precision)
        return self.rates[precision]
