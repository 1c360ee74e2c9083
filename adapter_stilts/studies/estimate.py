"""How long the runs of a study will take, and how much disk: from what the store has measured, else from benchmarks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from adapter_stilts.errors import StiltsError
from adapter_stilts.runs.record import Record, read_record
from adapter_stilts.studies.grid import tasks_of
from adapter_stilts.studies.plan import Node, Plan

# Weights of the encoder's matrices times pieces a second, in training bottleneck adapters: 1,054 pieces/s on the
# embedded backbone (21M), two CPU cores (benchmarks/results/throughput_cpu_embedded.json); 69,700 on XLM-R Large
# (302M), H100.
WORK_PER_SECOND = {"cpu": 2.2e10, "cuda": 2.1e13}
# Scoring has no backward pass (2,410 pieces/s in the same benchmark); full fine-tuning computes all weights' gradients.
SCORING_SPEED, FULL_SPEED = 2.3, 0.67
# What loading a model, scoring development data and writing a bundle take, where nothing was measured.
OVERHEAD_SECONDS = 8.0
TOKENS_PER_EXAMPLE, EXAMPLES, TEST_EXAMPLES = 25.0, 10_000, 500
# A store may hold thousands of records: so many of them are looked at.
LOOKED_AT = 300


@dataclass(frozen=True)
class Estimate:
    """Seconds of one run with its scoring, bytes of its weights, and whether its speed was measured in this store."""

    seconds: float
    bytes: int
    measured: bool


@dataclass
class Measured:
    """What finished runs on the same backbone and kind of device say."""

    speeds: dict[tuple[str, ...], list[float]] = field(default_factory=lambda: defaultdict(list))
    overheads: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    bytes: dict[tuple[str, str, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    lengths: dict[str, float] = field(default_factory=dict)
    available: dict[str, int] = field(default_factory=dict)

    def note(self, record: Record) -> None:
        """Take a record in."""
        cost, task = record.cost, record.task.name
        if record.control != "random" and cost.train_seconds > 0:
            for key in (
                (record.method, record.composition, task),
                (record.method, record.composition),
                (record.method,),
            ):
                self.speeds[key].append(cost.tokens_per_second)
        self.overheads[record.method].append(cost.seconds - cost.train_seconds)
        self.bytes[record.method, record.composition, len(record.over)].append(cost.bundle_bytes)
        for data in record.data:
            if data.split == "train" and data.examples:
                self.lengths[data.task] = data.tokens / data.examples
                self.available[data.task] = data.available


def estimate(plan: Plan, names: Sequence[str]) -> dict[str, Estimate]:
    """An estimate of each of the named runs."""
    measured = _measured(plan)
    return {name: _estimate(plan, plan.nodes[name], measured) for name in names}


def _measured(plan: Plan) -> Measured:
    measured = Measured()
    names = plan.store.names()
    for name in names[:: max(1, len(names) // LOOKED_AT)]:
        try:
            record = read_record(plan.store.folder / name)
        except StiltsError:
            continue
        same_device = record.device.startswith("CPU") == (plan.device == "cpu")
        if record.backbone.sha256 == plan.backbone.sha256 and same_device:
            measured.note(record)
    return measured


def _estimate(plan: Plan, node: Node, measured: Measured) -> Estimate:
    job = node.job
    keys = ((job.method, job.composition, job.title), (job.method, job.composition), (job.method,))
    speeds = next((measured.speeds[key] for key in keys if key in measured.speeds), None)
    speed = median(speeds) if speeds else _default_speed(plan, job.method)
    overhead = median(measured.overheads[job.method]) if job.method in measured.overheads else OVERHEAD_SECONDS
    seconds = overhead + (0.0 if job.control == "random" else _training_tokens(node, measured) / speed)
    if node.cells:
        # Scoring is as fast under every method, or nearly.
        forward = speed if job.method != "full" else speed / FULL_SPEED
        seconds += _test_tokens(plan, node, measured) / (forward * SCORING_SPEED)
    sizes = measured.bytes.get((job.method, job.composition, len(job.intermediates)))
    return Estimate(seconds, round(median(sizes)) if sizes else _default_bytes(plan, node), speeds is not None)


def _training_tokens(node: Node, measured: Measured) -> float:
    job = node.job
    if job.match_tokens is not None:
        return job.match_tokens * job.recipe.epochs
    tokens = 0.0
    for task in job.tasks:
        available = measured.available.get(task.name, EXAMPLES)
        examples = available if job.limit is None else min(job.limit, available)
        tokens += examples * measured.lengths.get(task.name, TOKENS_PER_EXAMPLE)
    return tokens * job.recipe.epochs


def _test_tokens(plan: Plan, node: Node, measured: Measured) -> float:
    target = node.cells[0].target
    (task,) = tasks_of(target)
    examples = plan.study.test_limit or TEST_EXAMPLES
    # Other languages' sentences have more pieces than English ones.
    return len(plan.evaluations[target]) * examples * measured.lengths.get(task.name, TOKENS_PER_EXAMPLE) * 1.3


def _default_speed(plan: Plan, method: str) -> float:
    sizes = plan.backbone.summary
    width, inner = sizes.hidden_size, sizes.intermediate_size
    weights = sizes.layers * (4 * width * width + 2 * width * inner)
    speed = WORK_PER_SECOND["cpu" if plan.device == "cpu" else "cuda"] / weights
    return speed * (FULL_SPEED if method == "full" else 1.0)


def _default_bytes(plan: Plan, node: Node) -> int:
    sizes, recipe = plan.backbone.summary, node.job.recipe
    width, inner, layers = sizes.hidden_size, sizes.intermediate_size, sizes.layers
    if node.job.method == "full":
        return 4 * (sizes.vocabulary * width + layers * (4 * width * width + 2 * width * inner))
    if node.job.method == "bottleneck":
        adapter = layers * 2 * width * width / recipe.reduction
    else:
        adapter = layers * 4 * width * recipe.rank
    return round(4 * adapter * (1 + len(node.job.intermediates)))


def duration(seconds: float) -> str:
    """Such as 40 s, 12 min, 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"
