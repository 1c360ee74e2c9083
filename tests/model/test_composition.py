"""What trains and what stays: every tensor compared, counts from a formula, refused combinations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_training import Place, english_task, make_place, pairs_task
from safetensors.torch import load_file
from torch import Tensor

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.model.composition import Arrangement, activate, choose_composition, set_trainable
from adapter_stilts.runs.store import Run
from adapter_stilts.training.batches import pack
from adapter_stilts.training.job import Job
from adapter_stilts.training.step import batch_logits
from adapter_stilts.training.trainer import build_model, fit, load_training_data

H, LAYERS, FEED_FORWARD, VOCABULARY = 32, 2, 128, 500
ENCODER = (VOCABULARY + 514 + 1) * H + 2 * H
ENCODER += LAYERS * (4 * (H * H + H) + 2 * H * FEED_FORWARD + FEED_FORWARD + H + 4 * H)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return make_place(tmp_path, monkeypatch)


def first_run(place: Place, **options: Any) -> Run:
    return place.train(english_task(place.folder / "first", "first"), **options)


def second_task(place: Place) -> Any:
    return english_task(place.folder / "second", "second", shift=1)


def fitted(job: Job) -> tuple[dict[str, Tensor], Any]:
    """The job's weights before training, and its model after."""
    data = load_training_data(job)
    model = build_model(job, data.labels)
    before = {name: own.clone() for name, own in model.state_dict().items()}
    fit(job, model, data)
    return before, model


def logits_of(job: Job, model: Any) -> Tensor:
    data = load_training_data(job)
    with torch.no_grad():
        return batch_logits(model.eval(), job.arrangement.head, pack(data.development, data.development_examples, 2))


def test_stack_trains_target_and_head_alone(place: Place) -> None:
    under = first_run(place)
    before, model = fitted(place.job(second_task(place), [under]))
    stored = load_file(under.bundle / "first" / "adapter.safetensors")
    changed: set[str] = set()
    kept: set[str] = set()
    for name, own in model.state_dict().items():
        (kept if torch.equal(own, before[name]) else changed).add(name)
    expected = {name for name in before if "adapters.second." in name or name.startswith("heads.second.")}
    assert changed == expected
    assert len(changed) == LAYERS * 4 + 2
    intermediate = {name for name in kept if "adapters.first." in name}
    assert intermediate == stored.keys()
    for name in intermediate:
        assert torch.equal(model.state_dict()[name], stored[name]), name
    backbone = load_file(place.backbone.folder / "model.safetensors")
    for name, own in backbone.items():
        found = model.state_dict()
        matching = [key for key in found if key.removeprefix("roberta.") == name]
        assert len(matching) == 1, name
        assert torch.equal(found[matching[0]], own), name


def test_zeroing_the_intermediate_changes_the_logits(place: Place) -> None:
    job = place.job(second_task(place), [first_run(place)])
    _, model = fitted(job)
    used = logits_of(job, model)
    assert torch.equal(used, logits_of(job, model))
    with torch.no_grad():
        for name, own in model.named_parameters():
            if "adapters.first." in name:
                own.zero_()
    assert (used - logits_of(job, model)).abs().max().item() > 0.01


@pytest.mark.parametrize("reduction", [8, 2])
def test_trainable_parameters_of_a_bottleneck(place: Place, reduction: int) -> None:
    """A layer has H d weights down and up, d and H biases, d = H / reduction; the tagging head is linear."""
    under = first_run(place)
    settings = {"reduction": str(reduction)}
    run = place.train(second_task(place), over=[under], settings=settings)
    d = H // reduction
    target = LAYERS * (2 * H * d + d + H) + H * 3 + 3
    intermediate = LAYERS * (2 * H * 4 + 4 + H)
    assert run.record.trainable_parameters == target
    assert run.record.total_parameters == ENCODER + intermediate + target
    model = build_model(place.job(second_task(place), [under], settings=settings), ["A", "B", "C"])
    names = {name for name, own in model.named_parameters() if own.requires_grad}
    adapter = "roberta.encoder.layer.{}.output.adapters.second.{}"
    parts = ("adapter_down.0.weight", "adapter_down.0.bias", "adapter_up.weight", "adapter_up.bias")
    layers = {adapter.format(layer, part) for layer in range(LAYERS) for part in parts}
    assert names == layers | {"heads.second.1.weight", "heads.second.1.bias"}


def test_trainable_parameters_of_classification_and_full(place: Place) -> None:
    """The classification head is dense (H x H) and linear; `full` trains the encoder as well, with every row."""
    pairs = pairs_task(place.folder / "pairs")
    head = H * H + H + 2 * H + 2
    assert place.train(pairs).record.trainable_parameters == LAYERS * (2 * H * 4 + 4 + H) + head
    record = place.train(pairs, method="full").record
    assert record.trainable_parameters == record.total_parameters == ENCODER + head


def test_adapters_of_a_run_that_is_itself_a_stack(place: Place) -> None:
    """Order is that in which the states pass; a task on itself gets another name, and keeps its own weights."""
    first = first_run(place)
    second = place.train(second_task(place), over=[first])
    job = place.job(english_task(place.folder / "first", "first"), [second])
    assert [name for _, name in job.adapters] == ["first_2", "second"]
    assert job.arrangement.adapters == ("first_2", "second", "first")
    model = build_model(job, ["A", "B", "C"])
    stored = load_file(first.bundle / "first" / "adapter.safetensors")
    for name, own in stored.items():
        assert torch.equal(model.state_dict()[name.replace("adapters.first.", "adapters.first_2.")], own), name
    assert place.execute(job).record.over[0].run == second.name


def test_two_intermediates_lie_in_the_order_given(place: Place) -> None:
    first, second = first_run(place), place.train(second_task(place))
    third = english_task(place.folder / "third", "third", shift=2)
    run = place.train(third, over=[second, first])
    assert [under.run for under in run.record.over] == [second.name, first.name]
    jobs = [place.job(third, order) for order in ([second, first], [first, second])]
    assert [job.arrangement.adapters for job in jobs] == [("second", "first", "third"), ("first", "second", "third")]
    one, other = (logits_of(job, build_model(job, ["A", "B", "C"])) for job in jobs)
    assert (one - other).abs().max().item() > 1e-4


def test_full_stilts_starts_from_the_final_encoder(place: Place) -> None:
    under = first_run(place, method="full")
    job = place.job(second_task(place), [under], method="full")
    final = load_file(under.bundle / "model.safetensors")
    model = build_model(job, ["A", "B", "C"])
    parts = ("embeddings.", "encoder.")
    start = {name: own for name, own in model.roberta.state_dict().items() if name.startswith(parts)}
    assert start.keys() == final.keys()
    for name, own in final.items():
        assert torch.equal(start[name], own), name
    backbone = load_file(place.backbone.folder / "model.safetensors")
    key = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(final[key], next(own for name, own in backbone.items() if name.endswith(key)))
    assert not any("first" in name for name in model.state_dict())
    run = place.execute(job)
    assert (run.record.composition, [under.run for under in run.record.over]) == ("continue", [under.name])
    assert run.record.over[0].development == under.record.development


def test_compositions_by_method() -> None:
    found = {
        (method, intermediates): choose_composition(method, None, intermediates)
        for method in ("bottleneck", "full")
        for intermediates in (0, 1)
    }
    assert list(found.values()) == ["none", "stack", "none", "continue"]
    assert choose_composition("bottleneck", "stack", 2) == "stack"


@pytest.mark.parametrize(
    ("method", "compose", "over", "complaint"),
    [
        (
            "full",
            "stack",
            1,
            r"^--compose: found 'stack'; --method full continues from --over: leave --compose out$",
        ),
        ("full", None, 2, r"^--over: found 2 runs, accepted with --method full: one"),
        ("bottleneck", "stack", 0, r"^--compose: found 'stack', .* bottleneck without --over: none$"),
        ("bottleneck", "none", 1, r"^--compose: found 'none', .* bottleneck with --over: stack$"),
        ("bottleneck", "fuse", 1, r"^--compose: found 'fuse'"),
        ("lora", None, 0, r"^--method: found 'lora', accepted: bottleneck, full$"),
    ],
)
def test_refused_before_anything_is_trained(
    place: Place, method: str, compose: str | None, over: int, complaint: str
) -> None:
    """The intermediates are given as tasks: a request that cannot end well must not train them first."""
    tasks = [english_task(place.folder / name, name, shift=shift) for shift, name in enumerate(("first", "other"))]
    with pytest.raises(UsageError, match=complaint):
        place.train(second_task(place), over=[str(own.path) for own in tasks[:over]], method=method, compose=compose)
    assert place.store.names() == []


def test_wrong_setting_is_refused_before_anything_is_trained(place: Place) -> None:
    under = english_task(place.folder / "first", "first")
    with pytest.raises(UsageError, match=r"^--set epoch: .*did you mean 'epochs'"):
        place.train(second_task(place), over=[str(under.path)], settings={"epoch": "3"})
    assert place.store.names() == []


def test_intermediate_of_another_method(place: Place) -> None:
    under = first_run(place, method="full")
    with pytest.raises(UsageError, match=rf"^--over {under.name}: a full run, accepted under --method bottleneck"):
        place.train(second_task(place), over=[under])


def test_part_without_a_parameter(place: Place) -> None:
    model = build_model(place.job(second_task(place)), ["A", "B", "C"])
    wrong = Arrangement("bottleneck", "none", ("second",), ("adapters.secnd.",), "second")
    with pytest.raises(StiltsError, match=r"no parameter adapters\.secnd\.\*"):
        set_trainable(model, wrong)
    activate(model, Arrangement("bottleneck", "none", ("second",), (), "second"))
    assert str(model.active_adapters) == "Stack[second]"
