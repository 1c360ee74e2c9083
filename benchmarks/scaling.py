"""Cost of an epoch by the number of training examples, and how much of it is waiting for data.

    python -m benchmarks.scaling --hub-mirror hub --out benchmarks/results/scaling_cpu.json

English UDPOS sentences, as often as needed, through the package's own epoch: sampling, packing, steps. On a CPU the
default backbone is a small random one, on which the work that is not the model's weighs most; on a GPU give the real
one (`--device cuda --backbone FacebookAI/xlm-roberta-large --examples 1024 4096 16384 65536`). The JSON file gets a
figure beside it: seconds against examples, both in powers, where a straight line of slope 1 is linear.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adapter_stilts.engine.device import default_precision
from adapter_stilts.files import atomic_write_text
from adapter_stilts.jobs.training_data import TrainingData, load_training_data
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.model.embedded import build_embedded
from adapter_stilts.paths import mirror_dir
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.encode import concatenate
from adapter_stilts.training.execution import Execution
from benchmarks.chart import INK, PAPER, text
from benchmarks.contenders import Size, job_of
from benchmarks.machine import describe_machine
from benchmarks.measuring import Sample
from benchmarks.ours import our_training
from benchmarks.peers import peer_rows
from benchmarks.random_backbone import LARGE, write_random

SMALL = "random-small"
SIZES = {**LARGE, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
EXAMPLES = (1_024, 4_096, 16_384, 65_536)
SENTENCES_A_STEP = 32
WARM_UP = 4 * SENTENCES_A_STEP


def sample_of(data: TrainingData, examples: int, seed: int = 0) -> Sample:
    """So many examples: all of the data as often as they fit in, and a random part for the rest."""
    (part,) = data.tasks
    times = -(-examples // part.train.examples)
    train = concatenate([part.train] * times)
    chosen = np.random.default_rng(seed).permutation(train.examples)[:examples]
    sampled = TrainingData((replace(part, train=train, train_examples=chosen),))
    none = peer_rows(part.train, np.arange(0))
    return Sample(sampled, none, none, ())


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time an epoch of every size, from the smallest on; the optimizer lives on."""
    mirror = mirror_dir(options.hub_mirror)
    if options.backbone == SMALL:
        write_random(folder, SIZES, build_embedded())
    base = load_backbone(str(folder) if options.backbone == SMALL else options.backbone, mirror=mirror)
    size, precision = Size(sentences=SENTENCES_A_STEP), default_precision(options.device)
    job = job_of("none", find_task("udpos"), base, [], size, precision, mirror)
    data = load_training_data(job)
    # Steps of the schedule are counted on what is timed: one round a size, and the warm-up.
    rounds = len(options.examples)
    rows = []
    with ExitStack() as stack:
        largest = sample_of(data, max(options.examples))
        training = our_training(job, data, largest, rounds, Execution(), options.device, stack)
        training.run(sample_of(data, WARM_UP), 0)
        for repeat, examples in enumerate(sorted(options.examples), 1):
            timing = training.run(sample_of(data, examples), repeat)
            rows.append(
                {
                    "examples": examples,
                    "tokens": timing.tokens,
                    "seconds": timing.seconds,
                    "tokens_per_second": timing.tokens / timing.seconds,
                    "waiting_share": (timing.waiting or 0.0) / timing.seconds,
                }
            )
            print(
                f"{examples:7,} examples {timing.seconds:8.1f} s {timing.tokens / timing.seconds:10,.0f} tokens/s",
                flush=True,
            )
    return {
        "benchmark": "scaling",
        "command": command_of(options),
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "device": options.device,
        "backbone": {
            "id": options.backbone,
            "layers": base.config.num_hidden_layers,
            "hidden": base.config.hidden_size,
        },
        "sentences_a_step": SENTENCES_A_STEP,
        "slope": slope(rows),
        "rows": rows,
    }


def command_of(options: argparse.Namespace) -> str:
    """The command that repeats it, the path of the mirror left out."""
    mirror = " --hub-mirror hub" if options.hub_mirror else ""
    given = f"--device {options.device} --backbone {options.backbone} --examples {' '.join(map(str, options.examples))}"
    return f"python -m benchmarks.scaling{mirror} {given} --out {options.out}"


def slope(rows: Sequence[Mapping[str, Any]]) -> float:
    """Of seconds against tokens, both as logarithms (least squares): 1 where cost is linear."""
    tokens, seconds = (np.log([row[name] for row in rows]) for name in ("tokens", "seconds"))
    return float(np.polyfit(tokens, seconds, 1)[0])


def figure(result: Mapping[str, Any]) -> str:
    """The SVG: a point a size with its numbers beside it, and the line that the smallest size's cost would give."""
    rows = result["rows"]
    width, height, left, bottom = 760, 420, 80, 360
    examples, seconds = (np.log10([row[name] for row in rows]) for name in ("examples", "seconds"))
    linear = seconds[0] + examples - examples[0]
    low, high = min(seconds.min(), linear.min()) - 0.1, max(seconds.max(), linear.max()) + 0.2

    def x(value: float) -> float:
        return left + 40 + (value - examples[0]) / max(examples[-1] - examples[0], 1e-9) * 440

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * 280

    line = " ".join(f"{x(one):.1f},{y(other):.1f}" for one, other in zip(examples, linear, strict=True))
    body = [
        text(
            16, 28, f"One epoch, {result['backbone']['id']} on {result['device']}: slope {result['slope']:.3f}", size=17
        ),
        text(16, 48, "seconds by training examples, both in powers; dashed: linear from the smallest on"),
        f'<polyline points="{line}" fill="none" stroke="{INK}" stroke-dasharray="5 4"/>',
        f'<line x1="{left}" x2="{left}" y1="70" y2="{bottom + 10}" stroke="{INK}"/>',
        f'<line x1="{left}" x2="{width - 40}" y1="{bottom + 10}" y2="{bottom + 10}" stroke="{INK}"/>',
    ]
    for row, one, other in zip(rows, examples, seconds, strict=True):
        body.append(f'<circle cx="{x(one):.1f}" cy="{y(other):.1f}" r="5" fill="{INK}"/>')
        body.append(
            text(x(one) + 9, y(other) + 14, f"{row['seconds']:,.1f} s, {row['tokens_per_second']:,.0f} tokens/s")
        )
        body.append(text(x(one), bottom + 28, f"{row['examples']:,}", anchor="middle"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    rest = f' font-family="sans-serif" fill="{INK}"><rect width="100%" height="100%" fill="{PAPER}"/>'
    return "\n".join([head + rest, *body, "</svg>\n"])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the JSON and its figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.split("\n")[0])
    parser.add_argument("--hub-mirror", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--backbone", default=SMALL)
    parser.add_argument("--examples", type=int, nargs="+", default=list(EXAMPLES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        result = measure(options, Path(folder))
    atomic_write_text(options.out, json.dumps(result, indent=2) + "\n")
    atomic_write_text(options.out.with_suffix(".svg"), figure(result))


if __name__ == "__main__":
    main()
