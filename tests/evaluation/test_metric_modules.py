"""The metrics as modules of the library `evaluate`: made from their classes, and loaded from their folders."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import evaluate
import pytest

from adapter_stilts.errors import StiltsError
from adapter_stilts.evaluation import metric_modules
from adapter_stilts.evaluation.metric_modules import ClassificationAccuracy, OfficialTagF1, SpanF1, TaggingAccuracy

MODULES = {
    "tagging_accuracy": TaggingAccuracy,
    "classification_accuracy": ClassificationAccuracy,
    "span_f1": SpanF1,
    "official_tag_f1": OfficialTagF1,
}
FOLDER = Path(metric_modules.__file__).parent
LOAD = """
import socket, sys
socket.socket.connect = None  # whoever opens a connection fails
import evaluate
from adapter_stilts.errors import StiltsError
for folder in sys.argv[1:]:
    metric = evaluate.load(folder, keep_in_memory=True)
    labels = (["A", "B"], ["A", "A"]) if "classification" in folder else ([["B-X", "O"]], [["B-X", "B-Y"]])
    try:
        print(type(metric).__name__, metric.compute(predictions=labels[0], references=labels[1]))
    except StiltsError as error:
        print(error)
"""


@pytest.mark.slow
def test_folders_are_what_evaluate_loads(tmp_path):
    """In a process of its own, without a network: the library puts copies of modules on the path for good."""
    folders = [str(FOLDER / name) for name in MODULES]
    assert sorted(str(path) for path in FOLDER.iterdir() if (path / f"{path.name}.py").is_file()) == sorted(folders)
    environment = {"HF_HOME": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, *folders]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | environment, cwd=tmp_path
    )
    assert done.stdout.splitlines() == [
        "TaggingAccuracy {'accuracy': 50.0}",
        "ClassificationAccuracy {'accuracy': 50.0}",
        "SpanF1 {'f1': 66.66666666666666}",
        "official_tag_f1: predicted tag 'B-X' (sentence 0, word 0, from 0); accepted are tags without a hyphen; "
        "IOB2 tags: span_f1",
    ]


def test_modules_need_neither_network_nor_disk(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("a file, so that no folder can be made under it")
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(blocked / "cache"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a metric opened a connection"))
    scores = [
        module().compute(predictions=labels, references=labels)
        for module in MODULES.values()
        for labels in [["O", "O"] if module is ClassificationAccuracy else [["O", "O"]]]
    ]
    assert scores == [{"accuracy": 100.0}, {"accuracy": 100.0}, {"f1": 0.0}, {"f1": 0.0}]


@pytest.mark.parametrize("keep_in_memory", [True, False])
def test_modules_at_work_at_once_do_not_mix(tmp_path, keep_in_memory):
    first, second = (TaggingAccuracy(keep_in_memory=keep_in_memory, cache_dir=str(tmp_path)) for _ in range(2))
    first.add_batch(predictions=[["A", "A"]], references=[["A", "A"]])
    second.add(prediction=["A"], reference=["B"])
    first.add(prediction=["A", "A"], reference=["B", "B"])
    second.add(prediction=["A"], reference=["B"])
    assert first.compute() == {"accuracy": 50.0}
    assert second.compute() == {"accuracy": 0.0}


def test_a_module_works_again_after_a_refusal():
    metric = SpanF1()
    for wrong in ([["NOUN"]], [["O", "O"]]):
        with pytest.raises(StiltsError):
            metric.compute(predictions=wrong, references=[["O"]])
    assert metric.compute(predictions=[["B-PER"]], references=[["B-PER"]]) == {"f1": 100.0}
