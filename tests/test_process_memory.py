"""A process that goes on after a run keeps none of its model."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
from support.training import Workspace, english_task
from transformers import XLMRobertaModel

from adapter_stilts import memory
from adapter_stilts.evaluation.predict import predict_file
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.model.backbone import load_backbone


def models_after(work: Callable[[], Any]) -> int:
    """Models more in memory when the work is done, where Python by itself looks for none."""
    gc.collect()
    before = count_models()
    gc.disable()
    try:
        work()
        return count_models() - before
    finally:
        gc.enable()


def count_models() -> int:
    return sum(isinstance(instance, XLMRobertaModel) for instance in gc.get_objects())


@pytest.mark.slow
def test_no_model_stays(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "WORTH_A_LOOK", -(2**40))
    task, text = english_task(workspace.folder / "data"), workspace.folder / "text.txt"
    text.write_text("the dog runs\n")
    assert models_after(lambda: workspace.train(task)) == 0
    run = workspace.train(task)
    assert models_after(lambda: evaluate(run, runs=workspace.store, device="cpu")) == 0
    assert models_after(lambda: predict_file(run, text, device="cpu")) == 0


def test_a_process_that_has_not_grown_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: searches.append(1))
    for worth, expected in ((2**40, 0), (-(2**40), 1)):
        monkeypatch.setattr(memory, "WORTH_A_LOOK", worth)
        with memory.memory_given_back():
            pass
        assert len(searches) == expected


def test_backbones_of_one_content_share_their_tokenizer(workspace: Workspace) -> None:
    folder = workspace.folder / "tiny"
    first = load_backbone(folder)
    assert load_backbone(folder).tokenizer is first.tokenizer
    path = folder / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    assert load_backbone(folder).tokenizer is not first.tokenizer
