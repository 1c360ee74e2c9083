"""Predictions in half precision: next to those in float32, and in float32 where fp16 cannot hold a number."""

import pytest
import torch
from support.training import Workspace, english_task

from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.predicting import predict_answers
from adapter_stilts.jobs.training_data import load_training_data


@pytest.mark.parametrize("scale", [1.0, 1e7])
def test_fp16_gives_way_to_float32(workspace: Workspace, capsys: pytest.CaptureFixture[str], scale: float) -> None:
    job = workspace.job(english_task(workspace.folder / "data"))
    data = load_training_data(job)
    (part,) = data.tasks
    model = build_model(job, data)
    with torch.no_grad():
        # fp16 ends at 65,504; the next layer norm takes the scale away again.
        model.roberta.embeddings.LayerNorm.weight.mul_(scale)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    wanted = predict_answers(model, part.use, part.train, part.train_examples)
    capsys.readouterr()
    prediction = predict_answers(model, part.use, part.train, part.train_examples, precision="fp16")
    said = capsys.readouterr().err
    if scale > 1:
        assert prediction == wanted
        assert f"{part.train.source}: a number too large for fp16, predicted in float32" in said
    else:
        words = [
            word
            for sentence in zip(prediction.answers, wanted.answers, strict=True)
            for word in zip(*sentence, strict=True)
        ]
        assert sum(one == other for one, other in words) > 0.99 * len(words)
        assert "fp16" not in said
    assert all(torch.equal(parameter, other) for parameter, other in zip(model.parameters(), before, strict=True))
