"""A study whose processes are killed ends as one that was left alone (the benchmark has 20 kills)."""

import json
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_killed_study_ends_with_the_same_weights_and_scores(tmp_path: Path) -> None:
    out = tmp_path / "chaos.json"
    command = [sys.executable, "-m", "benchmarks.chaos", "--kills", "4", "--examples", "24", "--epochs", "2"]
    done = subprocess.run([*command, "--out", str(out)], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert (found["kills"], found["runs"], found["weight_files"]) == (4, 12, 30)
    assert found["missing"] == found["more"] == found["different"] == found["made_again"] == []
