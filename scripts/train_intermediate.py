"""Learn one English intermediate task as an adapter on a frozen backbone, once for every target it will stand under.

python scripts/train_intermediate.py ud_deprel --backbone FacebookAI/xlm-roberta-large
python scripts/train_intermediate.py ud_deprel --backbone embedded --hub-mirror hub --limit 1000
"""

import argparse

from adapter_stilts import train

parser = argparse.ArgumentParser(description="train an intermediate task")
parser.add_argument("task", help="a task's name (adapter-stilts tasks) or your YAML file")
parser.add_argument("--backbone", default="FacebookAI/xlm-roberta-large")
parser.add_argument("--hub-mirror")
parser.add_argument("--limit", type=int, help="English training examples")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

run = train(
    options.task,
    backbone=options.backbone,
    mirror=options.hub_mirror,
    limit=options.limit,
    seed=options.seed,
)

# What it learnt, and what it cost. An intermediate that learnt nothing teaches nothing: look at this score first.
record = run.record
print(f"{run.name}: {record.task.selection_metric} {record.development:.2f} on English development data")
print(f"{record.trainable_parameters:,} of {record.total_parameters:,} parameters, {record.cost.seconds:.0f} s")
print(f"the adapter, as safetensors and JSON: {run.bundle}")
