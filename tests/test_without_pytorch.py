"""What reads records, scores and manifests, and what plans and reports studies, loads no library of models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.records import under, write_run
from support.studies import make_study_workspace, plan_of, write_study
from support.training import TEXT_IN_ONE_FILE

from adapter_stilts.model import backbone as backbones
from adapter_stilts.model.backbone import find_backbone
from adapter_stilts.studies.scheduler import run_plan

HEAVY = ("torch", "transformers", "adapters", "peft", "datasets")
STUDY = "targets: [tags/tags.yaml]\nintermediates: [other/other.yaml]\ncompositions: [none, stack]\n"
# A command, and then on standard error which of the libraries were loaded for it.
COMMAND = f"""\
import sys
from adapter_stilts.cli import app
app(sys.argv[1:], standalone_mode=False)
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def run(*arguments: object) -> tuple[str, str]:
    """Standard output of a command, and the last line of standard error: the libraries that it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_list_of_libraries_is_not_always_empty() -> None:
    code = COMMAND.replace("import sys\n", "import sys, datasets, adapters, peft\n", 1)
    done = subprocess.run([sys.executable, "-c", code, "tasks"], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == str(list(HEAVY))


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        "analysis.frame",
        "analysis.study",
        "evaluation.predictions",
        "evaluation.scores",
        "model.backbone",
        "report.write",
        "runs.leaks",
        "runs.manifest",
        "runs.record",
        "runs.store",
        "runs.tidy",
        "studies.estimate",
        "studies.grid",
        "studies.plan",
        "jobs.request",
        "jobs.resolve",
    ],
)
def test_modules(module: str) -> None:
    code = f"import sys, adapter_stilts.{module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_compare(tmp_path: Path) -> None:
    for seed in range(4):
        write_run(tmp_path, "bottleneck", "none", 70, seed=seed)
        write_run(tmp_path, "bottleneck", "stack", 72, seed=seed, over=[under("ud_deprel")])
        write_run(tmp_path, "bottleneck", "stack", 69, seed=seed, over=[under("snli")])
        write_run(tmp_path, "full", "none", 65, seed=seed)
        write_run(tmp_path, "full", "continue", 66, seed=seed, over=[under("ud_deprel")])
    printed, heavy = run("compare", "--runs", tmp_path, "--json")
    (table,) = json.loads(printed)["tables"]
    assert [(row["label"], row["mean_zero_shot"], len(row["seeds"])) for row in table["rows"]] == [
        ("bottleneck none", 70.0, 4),
        ("bottleneck stack over snli", 69.0, 4),
        ("bottleneck stack over ud_deprel", 72.0, 4),
        ("full none", 65.0, 4),
        ("full continue over ud_deprel", 66.0, 4),
    ]
    assert heavy == "[]"


@pytest.mark.slow
def test_plan_and_report_of_a_study_that_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finds every run by its name, which takes the backbone's identity."""
    workspace = make_study_workspace(tmp_path, monkeypatch)
    made = plan_of(workspace, STUDY)
    run_plan(made, workers=0)
    options = ("--backbone", workspace.backbone.id, "--runs", workspace.store.folder, "--device", "cpu")
    printed, heavy = run("study", "plan", write_study(workspace, STUDY), *options, "--json")
    assert [(node["run"], node["state"]) for node in json.loads(printed)["nodes"]] == [
        (name, "done") for name in made.nodes
    ]
    assert heavy == "[]"
    out = workspace.folder / "out"
    _, heavy = run("study", "report", write_study(workspace, STUDY), *options, "--out", out)
    assert "All 2 target runs are in this report." in (out / "index.html").read_text(encoding="utf-8")
    assert heavy == "[]"


def test_a_plan_with_masked_language_modelling_looks_for_a_head_without_reading_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_study_workspace(tmp_path, monkeypatch)
    text = workspace.folder / "text.yaml"
    (workspace.folder / "text.tsv").write_text("words\nthe dog\n", encoding="utf-8")
    text.write_text(TEXT_IN_ONE_FILE, encoding="utf-8")
    study = STUDY.replace(
        "[other/other.yaml]", f"[{{task: other/other.yaml, set: {{mlm_share: 0.5, mlm_task: {text}}}}}]"
    )
    made = plan_of(workspace, study)
    assert sum(node.job.method == "head" for node in made.nodes.values()) == 1
    options = ("--backbone", workspace.backbone.id, "--runs", workspace.store.folder, "--device", "cpu")
    printed, heavy = run("study", "plan", write_study(workspace, study), *options, "--json")
    assert [node["run"] for node in json.loads(printed)["nodes"]] == list(made.nodes)
    assert heavy == "[]"


@pytest.mark.slow
def test_a_plan_without_a_device_asks_pytorch_only_where_a_driver_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """\
import sys
from adapter_stilts.engine import device
device._has_driver = lambda: {driver}
print(device.default_device(), "torch" in sys.modules)
"""
    asked = {
        driver: subprocess.run(
            [sys.executable, "-c", code.format(driver=driver)], capture_output=True, text=True, check=True
        ).stdout.split()
        for driver in (False, True)
    }
    assert asked[False] == ["cpu", "False"]
    assert asked[True][1] == "True"


def test_find_backbone_reads_what_it_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The summary is of the files as they are now, and of these versions of the libraries that read them."""
    workspace = make_study_workspace(tmp_path, monkeypatch)
    folder = workspace.backbone.folder
    known = workspace.backbone.summary
    assert (known.hidden_size, known.layers, known.vocabulary) == (32, 2, 500)

    def reads() -> int:
        seen: list[Path] = []
        with monkeypatch.context() as context:
            context.setattr(backbones, "_check_readable", seen.append)
            backbone = find_backbone(folder)
        assert backbone.summary == known
        return len(seen)

    assert reads() == 0
    monkeypatch.setattr(backbones, "version", lambda name: "0.0")
    assert [reads(), reads()] == [1, 0]
