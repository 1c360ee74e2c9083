"""Compiled layers: one compilation for all of them, and a run that goes on where the compiler fails."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.training import Workspace, english_task, make_workspace, random_split, use_of
from torch._dynamo.testing import CompileCounter

from adapter_stilts.engine.batches import pack
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.predicting import predict_answers
from adapter_stilts.engine.step import batch_logits, training_logits
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model.compiled import compile_layers, is_compiled


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    workspace: Workspace = make_workspace(tmp_path, monkeypatch)
    job = workspace.job(english_task(tmp_path / "t", "t"), settings={"dropout": "0"})
    return build_model(job, load_training_data(job)).train()


def test_a_compiler_that_fails_is_left_behind(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def failing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler\nhere")

    batch = pack(random_split([9, 5]), np.arange(2), use_of("t"), 2)
    expected = batch_logits(model, batch)
    torch._dynamo.reset()
    compile_layers(model, backend=failing)  # type: ignore[arg-type]
    assert is_compiled(model)
    torch.testing.assert_close(training_logits(model, batch), expected, atol=0, rtol=0)
    assert not is_compiled(model)
    assert "compiling failed, training goes on without it" in capsys.readouterr().err


def test_layers_share_their_compilation(model: Any) -> None:
    """Two batches of the same sizes: as many compilations as one layer needs, not as many as there are layers."""
    split = random_split([9, 9, 5, 5])
    batches = [pack(split, np.array(sequences), use_of("t"), 2) for sequences in ([0, 2], [1, 3])]
    expected = [batch_logits(model, batch) for batch in batches]
    counter = CompileCounter()
    torch._dynamo.reset()
    compile_layers(model, backend=counter)  # type: ignore[arg-type]
    compiled = [training_logits(model, batch) for batch in batches]
    first = counter.frame_count
    assert first > 0
    again = [training_logits(model, batch) for batch in batches]
    assert counter.frame_count == first
    for one, other, wanted in zip(compiled, again, expected, strict=True):
        torch.testing.assert_close(one, wanted, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(other, wanted, atol=1e-6, rtol=1e-5)


def test_predictions_compile_nothing(model: Any) -> None:
    """Batches of every length come at scoring; training goes on compiled afterwards."""
    split = random_split([9, 5])
    batch = pack(split, np.arange(2), use_of("t"), 2)
    counter = CompileCounter()
    torch._dynamo.reset()
    compile_layers(model, backend=counter)  # type: ignore[arg-type]
    predict_answers(model, use_of("t"), split, np.arange(2))
    assert counter.frame_count == 0
    training_logits(model, batch)
    assert counter.frame_count > 0
    assert is_compiled(model)
