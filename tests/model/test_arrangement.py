"""What is active and what trains: the table for every method and composition, on built and on trained models."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.training import Workspace, add_head, english_task, make_workspace, pairs_task
from torch import Tensor

from adapter_stilts.engine.build import build_model
from adapter_stilts.errors import StiltsError
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model.arrangement import arrange
from adapter_stilts.model.parts import FrozenWeights, adapter_setup, part_of, parts_of, set_trainable
from adapter_stilts.runs.store import Run
from adapter_stilts.training import trainer
from adapter_stilts.training.trainer import fit

H, LAYERS, FEED_FORWARD, VOCABULARY, LABELS = 32, 2, 128, 500, 3
RANK, BOTTLENECK = 16, H // 8
ENCODER = (VOCABULARY + 514 + 1) * H + 2 * H
ENCODER += LAYERS * (4 * (H * H + H) + 2 * H * FEED_FORWARD + FEED_FORWARD + H + 4 * H)
BACKBONE = (3 + 2 + 16 * LAYERS, ENCODER)
HEAD = (2, LABELS * H + LABELS)
# Tensors and parameters by formula; H hidden, b bottleneck size, r rank.
PFEIFFER = (4 * LAYERS, LAYERS * (2 * H * BOTTLENECK + BOTTLENECK + H))
NULL = (4 * LAYERS, LAYERS * (2 * H + 1 + H))
HOULSBY = (2 * PFEIFFER[0], 2 * PFEIFFER[1])
# Two factors of rank one for each of 4 summands, twice, with biases; one rule of 4 x 4 x 4 for all.
COMPACTER = (12 * LAYERS + 1, 2 * LAYERS * (2 * (H + BOTTLENECK) + BOTTLENECK + H) + 4**3)
LORA = (4 * LAYERS, LAYERS * 2 * 2 * H * RANK)  # query and value, A and B
CAT = (LORA[0], 2 * LORA[1])
DORA = (6 * LAYERS, LORA[1] + LAYERS * 2 * H)  # a magnitude for each output
IA3 = (4 * LAYERS, LAYERS * (3 * H + FEED_FORWARD))  # key, value and two inputs of dense modules
LIGHT = (3, 2 * RANK * H + H)  # down without bias, up with one
FULL_FUSION = (5, 3 * H * H + 2 * H)


def times(part: tuple[int, int], count: int) -> tuple[int, int]:
    return part[0] * count, part[1] * count


@dataclass(frozen=True)
class Case:
    """A request, and what the model must be: frozen adapters, target adapter and fusion with their numbers."""

    method: str
    compose: str
    over: int
    frozen: dict[str, tuple[int, int]] = field(default_factory=dict)
    target: tuple[int, int] | None = None
    fusion: tuple[str, tuple[int, int]] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    baked: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.method, self.compose, str(self.over), *self.settings.values()])


def two(part: tuple[int, int]) -> dict[str, tuple[int, int]]:
    return {"a": part, "b": part}


ALL = "a,b,nothing"
LIGHT_TWICE, CONTINUE = ("a,b,nothing", times(LIGHT, 2 * LAYERS)), {"merge_then": "continue"}
WITH_NULL = {**two(PFEIFFER), "nothing": NULL}
CASES = [
    Case("bottleneck", "none", 0, {}, PFEIFFER),
    Case("bottleneck", "stack", 1, {"a": PFEIFFER}, PFEIFFER),
    Case("bottleneck", "stack", 2, two(PFEIFFER), PFEIFFER),
    Case("bottleneck", "continue", 1, {}, PFEIFFER),
    Case("bottleneck", "merge", 2, {"merged": PFEIFFER}, PFEIFFER),
    Case("bottleneck", "merge", 2, {}, PFEIFFER, settings=CONTINUE),
    Case("bottleneck", "fuse", 2, WITH_NULL, PFEIFFER, (ALL, times(LIGHT, LAYERS))),
    Case("bottleneck", "fuse", 2, two(PFEIFFER), PFEIFFER, ("a,b", times(LIGHT, LAYERS)), {"fusion_null": "false"}),
    Case("bottleneck", "fuse", 2, WITH_NULL, PFEIFFER, (ALL, times(FULL_FUSION, LAYERS)), {"fusion": "full"}),
    Case("houlsby", "none", 0, {}, HOULSBY),
    Case("houlsby", "stack", 1, {"a": HOULSBY}, HOULSBY),
    Case("houlsby", "fuse", 2, {**two(HOULSBY), "nothing": times(NULL, 2)}, HOULSBY, LIGHT_TWICE),
    Case("parallel", "stack", 1, {"a": PFEIFFER}, PFEIFFER),
    Case("compacter", "stack", 1, {"a": COMPACTER}, COMPACTER),
    Case("compacter", "continue", 1, {}, COMPACTER),
    Case("compacter", "fuse", 2, {**two(COMPACTER), "nothing": times(NULL, 2)}, COMPACTER, LIGHT_TWICE),
    Case("lora", "none", 0, {}, LORA),
    Case("lora", "stack", 2, two(LORA), LORA),
    Case("lora", "continue", 1, {}, LORA),
    Case("lora", "merge", 2, {"merged": LORA}, LORA),
    Case("lora", "merge", 2, {"merged": CAT}, LORA, settings={"merge": "cat"}),
    Case("lora", "merge", 2, {}, CAT, settings={"merge": "cat", **CONTINUE}),
    Case("lora", "bake", 2, {}, LORA, baked=("a", "b")),
    Case("dora", "none", 0, {}, DORA),
    Case("dora", "stack", 1, {"a": DORA}, DORA),
    Case("dora", "continue", 1, {}, DORA),
    Case("dora", "bake", 1, {}, DORA, baked=("a",)),
    Case("ia3", "none", 0, {}, IA3),
    Case("ia3", "stack", 2, two(IA3), IA3),
    Case("ia3", "continue", 1, {}, IA3),
    Case("ia3", "merge", 2, {"merged": IA3}, IA3),
    Case("ia3", "bake", 1, {}, IA3, baked=("a",)),
    Case("full", "none", 0),
    Case("full", "continue", 1),
    Case("head", "none", 0),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_workspace(tmp_path_factory.mktemp("arrangement"), monkeypatch)


@cache
def intermediate(workspace: Workspace, method: str, name: str) -> Run:
    task = english_task(workspace.folder / name, name, shift=ord(name) - ord("a") + 1)
    return workspace.train(task, method=method, settings={"epochs": "1"})


def job_of(workspace: Workspace, case: Case) -> Job:
    over = [intermediate(workspace, case.method, name) for name in "ab"[: case.over]]
    named = {"adapter": case.method} if case.method in ("houlsby", "parallel", "compacter") else {}
    return workspace.job(
        english_task(workspace.folder / "t", "target"),
        over,
        method="bottleneck" if named else case.method,
        compose=case.compose,
        settings={**named, **case.settings, "weight_decay": "0.01"},
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_trains(workspace: Workspace, case: Case) -> None:
    """Names and numbers of all parts, and every tensor before and after training."""
    job = job_of(workspace, case)
    data = load_training_data(job)
    model = build_model(job, data)
    expected = {"backbone": (*BACKBONE, case.method == "full"), "head target": (*HEAD, True)}
    expected |= {f"adapter {name}": (*numbers, False) for name, numbers in case.frozen.items()}
    expected |= {"adapter target": (*case.target, True)} if case.target else {}
    expected |= {f"fusion {case.fusion[0]}": (*case.fusion[1], True)} if case.fusion else {}
    assert {part.name: (part.tensors, part.parameters, part.trains) for part in parts_of(model)} == expected
    assert job.arrangement.baked == case.baked
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fitted = fit(job, model, data)
    after = model.state_dict()
    assert before.keys() == after.keys()
    trained = {name for name, (_, _, trains) in expected.items() if trains}
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    # A bias of all keys is the same for every softmax, so its gradient is zero or rounding error.
    any_ = {name for name in after if part_of(name).startswith("fusion ") and name.endswith("key.bias")}
    assert changed - any_ == {name for name in after if part_of(name) in trained} - any_
    assert fitted.trainable_parameters == sum(numbers for _, numbers, trains in expected.values() if trains)
    assert fitted.total_parameters == sum(numbers for _, numbers, _ in expected.values())
    assert {part.name for part in fitted.parts if part.trains} == trained


@pytest.mark.parametrize("method", ["bottleneck", "compacter", "lora", "dora", "ia3"])
def test_stacked_intermediate_has_its_stored_weights(workspace: Workspace, method: str) -> None:
    run = intermediate(workspace, method, "a")
    job = job_of(workspace, Case(method, "stack", 1))
    data = load_training_data(job)
    model = build_model(job, data)
    fit(job, model, data)
    (path,) = (path for path in (run.bundle / "a").glob("*.safetensors") if "head" not in path.name)
    stored = sorted(load_file(path).values(), key=by_content)
    loaded = sorted(
        (parameter for name, parameter in model.named_parameters() if part_of(name) == "adapter a"), key=by_content
    )
    assert len(stored) == len(loaded)
    assert all(torch.equal(one, other) for one, other in zip(stored, loaded, strict=True))


def by_content(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.detach().flatten().tolist()


def test_backbone_is_the_checkpoint_after_training(workspace: Workspace) -> None:
    job = job_of(workspace, Case("bottleneck", "stack", 1))
    data = load_training_data(job)
    model = build_model(job, data)
    fit(job, model, data)
    tensors = {name.removeprefix("roberta."): tensor for name, tensor in model.state_dict().items()}
    for name, tensor in load_file(workspace.backbone.folder / "model.safetensors").items():
        assert torch.equal(tensors[name], tensor), name


def test_numbers_of_other_heads_and_sizes(workspace: Workspace) -> None:
    """The classification head is dense (H x H) and linear; d = H / reduction."""
    pairs = pairs_task(workspace.folder / "pairs")
    head = H * H + H + 2 * H + 2
    assert workspace.train(pairs).record.trainable_parameters == PFEIFFER[1] + head
    record = workspace.train(pairs, method="full").record
    assert record.trainable_parameters == record.total_parameters == ENCODER + head
    job = workspace.job(pairs, settings={"reduction": "2", "layers": "1"})
    parts = {part.name: part.parameters for part in parts_of(build_model(job, load_training_data(job)))}
    assert parts == {"backbone": ENCODER, "adapter pairs": 2 * H * 16 + 16 + H, "head pairs": head}


# --- the table itself -------------------------------------------------------------------------------------------------


def test_table_by_hand() -> None:
    fused = arrange("bottleneck", "fuse", "t", ["a", "b"])
    assert (str(adapter_setup(fused)), fused.fusion, fused.head) == ("Stack[Fuse[a, b], t]", "a,b", "t")
    assert fused.trained == {"adapter t", "fusion a,b", "head t"}
    assert fused.parts == {"backbone", "adapter a", "adapter b", "adapter t", "fusion a,b", "head t"}
    stacked = arrange("bottleneck", "stack", "t", ["a", "b"], ["h", "g"], ["m"])
    assert (str(adapter_setup(stacked)), stacked.head) == ("Stack[a, b, t]", "h")
    assert stacked.trained == {"adapter t", "head h", "head g"}
    assert stacked.parts == {"backbone", "adapter a", "adapter b", "adapter t", "head h", "head g", "head m"}
    baked = arrange("lora", "bake", "t", ["a", "b"])
    assert (baked.adapters, baked.baked, baked.trained) == (("t",), ("a", "b"), {"adapter t", "head t"})
    full = arrange("full", "continue", "t", ["a"])
    assert (full.adapters, full.trained, full.parts) == ((), {"backbone", "head t"}, {"backbone", "head t"})
    assert arrange("head", "none", "t").trained == {"head t"}
    assert arrange("bottleneck", "fuse", "t", ["a", "b"], phase="use").trained == frozenset()


@pytest.mark.parametrize(
    ("parameter", "part"),
    [
        ("roberta.encoder.layer.0.output.adapters.a_b.adapter_up.weight", "adapter a_b"),
        ("roberta.encoder.layer.0.output.adapter_fusion_layer.a,b.query.down.weight", "fusion a,b"),
        ("roberta.shared_parameters.a.phm_rule", "adapter a"),
        ("roberta.encoder.layer.1.attention.self.query.lora_A.a.weight", "adapter a"),
        ("roberta.encoder.layer.1.attention.self.query.lora_magnitude_vector.a.weight", "adapter a"),
        ("roberta.encoder.layer.1.attention.self.key.ia3_l.a", "adapter a"),
        ("roberta.encoder.layer.1.attention.self.query.base_layer.weight", "backbone"),
        ("roberta.embeddings.word_embeddings.weight", "backbone"),
        ("heads.adapters.1.weight", "head adapters"),
    ],
)
def test_part_of_a_name(parameter: str, part: str) -> None:
    assert part_of(parameter) == part


def test_head_of_an_intermediate_is_refused(workspace: Workspace) -> None:
    job = job_of(workspace, Case("bottleneck", "stack", 1))
    model = build_model(job, load_training_data(job))
    add_head(model, "a")
    with pytest.raises(StiltsError, match=r"^bottleneck stack: the model has besides head a$"):
        set_trainable(model, job.arrangement)


def test_part_that_the_model_lacks(workspace: Workspace) -> None:
    job = job_of(workspace, Case("lora", "none", 0))
    model = build_model(job, load_training_data(job))
    with pytest.raises(StiltsError, match=r"^lora stack: the model lacks adapter a$"):
        set_trainable(model, arrange("lora", "stack", "target", ["a"]))
    add_head(model, "more", ["A"])
    set_trainable(model, arrange("lora", "none", "target", heads=["target", "more"]))
    assert {part.name for part in parts_of(model) if part.trains} == {"adapter target", "head target", "head more"}


def test_one_changed_value_of_a_frozen_tensor_is_noticed(workspace: Workspace) -> None:
    """The smallest change that a float can make, in the first and in the last value of every frozen tensor."""
    job = job_of(workspace, Case("bottleneck", "stack", 1))
    model = build_model(job, load_training_data(job))
    frozen = FrozenWeights(model)
    names = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert len(names) == BACKBONE[0] + PFEIFFER[0]
    for number, name in enumerate(names):
        flat = dict(model.named_parameters())[name].data.view(-1)
        index = -1 if number % 2 else 0
        before = flat[index].clone()
        flat[index] = torch.nextafter(before, torch.tensor(float("inf")))
        with pytest.raises(StiltsError, match=rf"^{name}: is frozen and has changed in training$"):
            frozen.check(model)
        flat[index] = before
        frozen.check(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    frozen.check(model)


def test_training_that_changes_a_frozen_weight_ends(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(workspace, Case("bottleneck", "none", 0))
    data = load_training_data(job)
    model = build_model(job, data)

    def meddling(*_: Any) -> tuple[dict[str, float], int]:
        with torch.no_grad():
            model.roberta.encoder.layer[1].output.dense.bias[3] += 1e-7
        return {"accuracy": 1.0}, 2

    monkeypatch.setattr(trainer, "development_scores", meddling)
    with pytest.raises(StiltsError, match=r"^roberta\.encoder\.layer\.1\.output\.dense\.bias: is frozen and has"):
        fit(job, model, data)
