"""Train a target task in English on top of an intermediate, then score it in every language it was never trained on.

python scripts/train_target.py udpos --over ud_deprel --backbone FacebookAI/xlm-roberta-large
python scripts/train_target.py udpos --over ud_deprel --backbone embedded --hub-mirror hub --limit 1000
"""

import argparse

from adapter_stilts import evaluate, train
from adapter_stilts.languages import language

parser = argparse.ArgumentParser(description="train a target task over an intermediate and score it zero-shot")
parser.add_argument("task", help="a task's name (adapter-stilts tasks) or your YAML file")
parser.add_argument("--over", action="append", default=[], help="an intermediate: a run, or a task to be trained first")
parser.add_argument("--backbone", default="FacebookAI/xlm-roberta-large")
parser.add_argument("--hub-mirror")
parser.add_argument("--limit", type=int, help="English training examples")
parser.add_argument("--test-limit", type=int, help="test sentences a language")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

run = train(
    options.task,
    over=options.over,
    backbone=options.backbone,
    mirror=options.hub_mirror,
    limit=options.limit,
    seed=options.seed,
)
scores = evaluate(run, limit=options.test_limit, mirror=options.hub_mirror)

metric = run.record.task.selection_metric
for code, row in scores.languages.items():
    print(f"{code}  {language(code).name:<12} {metric} {row[metric]:5.1f}  on {row['n']:.0f} sentences")
if scores.mean_zero_shot:
    print(f"mean without {', '.join(scores.trained_languages)}: {scores.mean_zero_shot[metric]:.1f}")
print(f"missing: {', '.join(scores.missing) or 'none'}")
