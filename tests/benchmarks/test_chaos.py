"""Commands whose processes are killed and stopped end as ones that were left alone (the benchmark has 60 kills)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_killed_commands_end_with_the_same_weights_and_scores(tmp_path: Path) -> None:
    out = tmp_path / "chaos.json"
    command = [sys.executable, "-m", "benchmarks.chaos", "--kills", "10", "--examples", "24", "--epochs", "2"]
    done = subprocess.run([*command, "--out", str(out)], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert (found["kills"], found["runs"], found["weight_files"]) == (10, 12, 30)
    assert found["missing"] == found["more"] == found["different"] == found["made_again"] == []
    assert found["left_over"] == {"study": [], "evaluate": [], "report": [], "cache": []}
    assert (found["report_is_same"], found["caches_are_same"]) == (True, True)
