"""The benchmark that searches recipes: each search once, and each trial's scores in the file."""

import json
from pathlib import Path

import pytest
from support.training import english_task, make_workspace

from benchmarks import tuning


def test_a_search_that_stands_in_the_file_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(tmp_path, monkeypatch)
    task = english_task(tmp_path / "t", "target")
    out = tmp_path / "tuning.json"
    asked = ["--backbone", str(workspace.backbone.folder), "--runs", str(tmp_path / "runs"), "--tasks", str(task.path)]
    asked += ["--methods", "bottleneck", "--trials", "2", "--limit", "12", "--out", str(out)]
    tuning.main(asked)
    (search,) = json.loads(out.read_text(encoding="utf-8"))["searches"]
    assert list(search) == ["task", "method", "backbone", "recipe", "trials", "limit", "match_tokens"]
    best = max(search["trials"], key=lambda trial: trial["development"])
    assert search["recipe"]["learning_rate"] == float(best["settings"]["learning_rate"])
    assert [float(trial["settings"]["learning_rate"]) for trial in search["trials"]] == [1.3e-3, 4e-2]
    before = out.stat().st_mtime_ns
    tuning.main(asked)
    assert out.stat().st_mtime_ns == before
