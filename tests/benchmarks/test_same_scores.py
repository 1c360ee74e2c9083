"""The benchmark of scores by execution, on a tiny backbone: two times the same execution in two stores."""

import json
from pathlib import Path

import pytest
from helpers_training import english_task, make_place

from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.runs.store import RunStore
from benchmarks import same_scores
from benchmarks.ours import EXECUTIONS


def test_means_by_execution_seed_and_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place(tmp_path, monkeypatch)
    task = english_task(tmp_path / "t", "tags")
    monkeypatch.setitem(EXECUTIONS, "captured", EXECUTIONS["eager"])
    asked = ["--backbone", str(place.backbone.folder), "--device", "cpu", "--targets", str(task.path)]
    asked += ["--executions", "eager", "captured", "--test-limit", "5", "--set", "epochs=1"]
    same_scores.main([*asked, "--runs", str(tmp_path / "same"), "--out", str(tmp_path / "same.json")])
    (found,) = json.loads((tmp_path / "same.json").read_text(encoding="utf-8"))["targets"].values()
    assert found["means"]["eager"] == found["means"]["captured"]
    assert found["between_executions"] == 0.0
    eager = found["means"]["eager"]["float32"]
    assert found["between_seeds"]["eager"] == max(eager) - min(eager)
    store = RunStore(tmp_path / "same" / "eager")
    scored = {
        run.record.seed: evaluate(run, limit=5, runs=store, device="cpu").mean["accuracy"] for run in store.runs()
    }
    assert eager == [scored[0], scored[1]]
