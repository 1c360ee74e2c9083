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
    report = json.loads(out.read_text())
    assert (report["kills"], report["runs"], report["weight_files"]) == (10, 12, 30)
    assert report["missing"] == report["more"] == report["different"] == report["made_again"] == []
    assert report["left_over"] == {"study": [], "evaluate": [], "report": [], "cache": []}
    assert (report["report_is_same"], report["caches_are_same"]) == (True, True)
