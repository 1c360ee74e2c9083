"""One intermediate under one target, as adapters and as full STILTs: four runs, one table.

python scripts/compare_with_stilts.py udpos ud_deprel --backbone FacebookAI/xlm-roberta-large
python scripts/compare_with_stilts.py udpos ud_deprel --backbone embedded --hub-mirror hub --limit 500
"""

import argparse

from adapter_stilts import RunStore, evaluate, train
from adapter_stilts.analysis.compare import compare_runs

parser = argparse.ArgumentParser(description="an intermediate under a target, beside full STILTs")
parser.add_argument("target")
parser.add_argument("intermediate")
parser.add_argument("--backbone", default="FacebookAI/xlm-roberta-large")
parser.add_argument("--hub-mirror")
parser.add_argument("--limit", type=int, help="English training examples of every task")
parser.add_argument("--test-limit", type=int, help="test sentences a language")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

store = RunStore()
runs = []
for method in ("bottleneck", "full"):
    for over in ([], [options.intermediate]):
        run = train(
            options.target,
            over=over,
            method=method,
            backbone=options.backbone,
            mirror=options.hub_mirror,
            limit=options.limit,
            seed=options.seed,
            runs=store,
        )
        evaluate(run, limit=options.test_limit, runs=store, mirror=options.hub_mirror)
        runs.append(run)

print(compare_runs(store, runs, limit=options.test_limit).markdown())
