"""Compositions end to end: what a target starts from, what it leaves, its controls, one seed one result."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.training import FAST, Workspace, english_task, make_workspace, task_of, use_of, weights_of
from torch import Tensor

from adapter_stilts.engine.batches import pack
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.bundle import load_bundle
from adapter_stilts.engine.step import batch_logits, parameter_groups
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import load_training_data, shuffle_labels
from adapter_stilts.model.parts import part_of
from adapter_stilts.runs.manifest import read_manifest
from adapter_stilts.runs.store import Run, RunStore
from adapter_stilts.training import api
from adapter_stilts.training.trainer import fit

BOTTLENECKS, PEFT = ("bottleneck", "houlsby", "compacter"), ("lora", "dora", "ia3")
CONTINUE = {"merge_then": "continue"}
# A learning rate that moves weights far from where they start in a few steps.
# Method, composition, intermediates, settings; adapters of the bundle, how many are fused, the variant.
CASES: list[tuple[str, str, str, dict[str, str], str, int, str]] = [
    ("bottleneck", "none", "", {}, "t", 0, ""),
    ("bottleneck", "stack", "ab", {}, "a b t", 0, ""),
    ("bottleneck", "continue", "a", {}, "t", 0, ""),
    ("bottleneck", "merge", "ab", {"merge_weights": "0.8,0.2"}, "merged t", 0, "linear, then stack, weights 0.8/0.2"),
    ("bottleneck", "merge", "ab", CONTINUE, "t", 0, "linear, then continue"),
    ("bottleneck", "fuse", "ab", {}, "a b nothing t", 3, "light fusion"),
    ("bottleneck", "fuse", "ba", {"fusion": "full"}, "b a nothing t", 3, "full fusion"),
    ("bottleneck", "fuse", "ab", {"fusion_null": "false"}, "a b t", 2, "light fusion without null"),
    ("houlsby", "stack", "a", {}, "a t", 0, "adapter=houlsby"),
    ("houlsby", "fuse", "ab", {}, "a b nothing t", 3, "light fusion, adapter=houlsby"),
    ("parallel", "stack", "a", {}, "a t", 0, "adapter=parallel"),
    ("compacter", "continue", "a", {}, "t", 0, "adapter=compacter"),
    ("compacter", "fuse", "ab", {}, "a b nothing t", 3, "light fusion, adapter=compacter"),
    ("lora", "none", "", {"rank": "4", "layers": "1"}, "t", 0, "layers=1, rank=4"),
    ("lora", "stack", "ab", {}, "a b t", 0, ""),
    ("lora", "continue", "a", {}, "t", 0, ""),
    ("lora", "merge", "ab", {}, "merged t", 0, "svd, then stack"),
    ("lora", "merge", "ab", {"merge": "ties"}, "merged t", 0, "ties, then stack"),
    ("lora", "merge", "ab", {"merge": "dare", **CONTINUE}, "t", 0, "dare, then continue"),
    ("lora", "merge", "ab", {"merge": "cat", **CONTINUE}, "t", 0, "cat, then continue"),
    ("lora", "bake", "ab", {}, "t", 0, ""),
    ("dora", "none", "", {}, "t", 0, ""),
    ("dora", "stack", "a", {}, "a t", 0, ""),
    ("dora", "bake", "a", {}, "t", 0, ""),
    ("ia3", "none", "", {}, "t", 0, ""),
    ("ia3", "stack", "a", {}, "a t", 0, ""),
    ("ia3", "merge", "ab", {}, "merged t", 0, "linear, then stack"),
    ("ia3", "bake", "ab", {}, "t", 0, ""),
    ("full", "none", "", {}, "", 0, ""),
    ("full", "continue", "a", {}, "", 0, ""),
    ("head", "none", "", {}, "", 0, ""),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_workspace(tmp_path_factory.mktemp("compositions"), monkeypatch)


@cache
def under(workspace: Workspace, method: str, name: str) -> Run:
    return workspace.train(task_of(workspace, name), method=method, settings=FAST)


def target(workspace: Workspace, method: str, names: str, compose: str | None = None, **options: Any) -> Job:
    """The target's job over the intermediates of these names."""
    over = [under(workspace, method, name) for name in names]
    if method in ("houlsby", "parallel", "compacter"):
        options["settings"] = {"adapter": method, **options.get("settings", {})}
        method = "bottleneck"
    options["settings"] = {**FAST, **options.get("settings", {})}
    return workspace.job(task_of(workspace, "t"), over, method=method, compose=compose, **options)


def built(job: Job) -> Any:
    return build_model(job, load_training_data(job))


def logits_of(job: Job, model: Any) -> Tensor:
    split = load_training_data(job).tasks[0].development
    assert split is not None
    batch = pack(split, np.arange(split.examples), use_of(job.arrangement.head), 2)
    with torch.no_grad():
        return batch_logits(model.eval(), batch)


def of_part(model: Any, part: str) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters() if part_of(name) == part}


def as_stored(name: str, adapter: str, stored_as: str) -> str:
    """The name in an adapter's file of a parameter in a model, for `adapters` and for `peft`."""
    if ".lora_" not in name and ".ia3_l" not in name:
        return name.replace(f".{adapter}.", f".{stored_as}.")
    bare = name.replace("roberta.", "base_model.model.", 1).removesuffix(".weight").removesuffix(f".{adapter}")
    return f"{bare}.weight" if bare.endswith(("lora_A", "lora_B")) else bare


def stored(run: Run, adapter: str) -> dict[str, Tensor]:
    (path,) = (path for path in (run.bundle / adapter).glob("*.safetensors") if "head" not in path.name)
    return load_file(path)


# --- end to end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "compose", "names", "settings", "adapters", "fused", "variant"), CASES)
def test_train_and_load(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    compose: str,
    names: str,
    settings: dict[str, str],
    adapters: str,
    fused: int,
    variant: str,
) -> None:
    """What the record and the bundle say, and the same logits from the bundle as before it was saved."""
    before: list[Any] = []
    original = api.save_bundle

    def remember(folder: Path, model: Any, manifest: Any, *rest: Any) -> Any:
        before.append(model)
        before.append(logits_of(job, model))
        return original(folder, model, manifest, *rest)

    job = target(workspace, method, names, compose, settings=settings)
    over = [under(workspace, method, name) for name in names]
    monkeypatch.setattr(api, "save_bundle", remember)
    run = workspace.train(task_of(workspace, "t"), method=method, over=over, compose=compose, settings=FAST | settings)
    assert (run.name, run.record.composition, run.record.variant) == (job.name, compose, variant)
    assert [(intermediate.run, intermediate.task, intermediate.development) for intermediate in run.record.over] == [
        (source.name, source.record.task.name, source.record.development) for source in over
    ]
    model, manifest = load_bundle(run.bundle, workspace.backbone)
    assert (" ".join(manifest.adapters), manifest.fused) == (adapters, fused)
    assert manifest.baked == (tuple(names) if compose == "bake" else ())
    assert list(model.heads) == ["t"]
    torch.testing.assert_close(logits_of(job, model), before[1], atol=1e-5, rtol=1e-5)
    assert run.record.cost.bundle_bytes == sum(file.bytes for file in read_manifest(run.bundle).files.values())
    assert len(run.record.history) == run.record.selected_epoch == run.record.recipe.epochs


# --- what a target starts from ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*BOTTLENECKS, *PEFT])
def test_continue_starts_from_the_intermediates_weights(workspace: Workspace, method: str) -> None:
    parameters = of_part(built(target(workspace, method, "a", "continue")), "adapter t")
    wanted = stored(under(workspace, method, "a"), "a")
    assert {as_stored(name, "t", "a") for name in parameters} == wanted.keys()
    for name, parameter in parameters.items():
        assert torch.equal(parameter, wanted[as_stored(name, "t", "a")]), name


@pytest.mark.parametrize("then", ["stack", "continue"])
@pytest.mark.parametrize("method", ["bottleneck", "compacter", "ia3"])
def test_merge_is_the_weighted_mean(workspace: Workspace, method: str, then: str) -> None:
    job = target(workspace, method, "ab", "merge", settings={"merge_weights": "0.8,0.2", "merge_then": then})
    name = {"stack": "merged", "continue": "t"}[then]
    one, other = (stored(under(workspace, method, task_name), task_name) for task_name in "ab")
    parameters = of_part(built(job), f"adapter {name}")
    assert len(parameters) == len(one)
    for key, parameter in parameters.items():
        wanted = 0.8 * one[as_stored(key, name, "a")] + 0.2 * other[as_stored(key, name, "b")]
        torch.testing.assert_close(parameter, wanted, atol=1e-6, rtol=0)


def deltas(tensors: dict[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """scaling * B @ A by module."""
    return {
        key.removesuffix(".lora_A.weight"): scaling * tensors[key.replace("lora_A", "lora_B")] @ tensor
        for key, tensor in tensors.items()
        if "lora_A" in key
    }


def test_merge_of_lora_adds_weighted_deltas(workspace: Workspace) -> None:
    """alpha is twice the rank; `cat` is exact and has scaling 1."""
    job = target(workspace, "lora", "ab", "merge", settings={"merge_weights": "0.8,0.2", "merge": "cat"})
    model = built(job)
    one, other = (deltas(stored(under(workspace, "lora", task_name), task_name), 2.0) for task_name in "ab")
    config = model.peft.tuner.peft_config["merged"]
    merged = {as_stored(name, "merged", ""): parameter for name, parameter in of_part(model, "adapter merged").items()}
    merged_deltas = deltas(merged, config.lora_alpha / config.r)
    assert merged_deltas.keys() == one.keys()
    for key, delta in merged_deltas.items():
        torch.testing.assert_close(delta, 0.8 * one[key] + 0.2 * other[key], atol=1e-6, rtol=0)


def test_bake_adds_the_deltas_to_the_backbone(workspace: Workspace) -> None:
    model = built(target(workspace, "lora", "ab", "bake"))
    one, other = (deltas(stored(under(workspace, "lora", task_name), task_name), 2.0) for task_name in "ab")
    backbone = load_file(workspace.backbone.folder / "model.safetensors")
    weights = {name.replace(".base_layer", ""): parameter for name, parameter in of_part(model, "backbone").items()}
    for key, delta in one.items():
        module = key.removeprefix("base_model.model.")
        wanted = backbone[f"{module}.weight"] + delta + other[key]
        torch.testing.assert_close(weights[f"roberta.{module}.weight"], wanted, atol=1e-6, rtol=0)
        assert delta.abs().max() > 1e-3


@pytest.mark.parametrize("method", PEFT)
def test_bake_and_stack_start_as_the_same_function(workspace: Workspace, method: str) -> None:
    """A fresh target adapter changes nothing, so what lies under it is all there is."""
    jobs = [target(workspace, method, "ab", compose) for compose in ("stack", "bake")]
    stack, bake = (logits_of(job, built(job)) for job in jobs)
    torch.testing.assert_close(stack, bake, atol=1e-5, rtol=1e-5)
    alone = logits_of(job := target(workspace, method, ""), built(job))
    assert (stack - alone).abs().max() > 1e-3


def test_two_intermediates_lie_in_the_order_given(workspace: Workspace) -> None:
    jobs = [target(workspace, "bottleneck", names) for names in ("ab", "ba")]
    assert [job.arrangement.adapters for job in jobs] == [("a", "b", "t"), ("b", "a", "t")]
    models = [built(job) for job in jobs]
    for name in "ab":
        wanted = stored(under(workspace, "bottleneck", name), name)
        for model in models:
            parameters = of_part(model, f"adapter {name}")
            assert parameters.keys() == wanted.keys()
            assert all(torch.equal(parameter, wanted[key]) for key, parameter in parameters.items())
    one, other = (logits_of(job, model) for job, model in zip(jobs, models, strict=True))
    assert (one - other).abs().max() > 1e-4


def test_run_that_is_itself_a_stack_brings_all_its_adapters(workspace: Workspace) -> None:
    """A task on itself gets another name, and keeps its own weights."""
    first = under(workspace, "bottleneck", "a")
    second = workspace.train(task_of(workspace, "b"), over=[first])
    job = workspace.job(task_of(workspace, "a"), [second])
    assert [name for _, _, name in job.underneath] == ["a_2", "b"]
    assert job.arrangement.adapters == ("a_2", "b", "a")
    parameters = of_part(built(job), "adapter a_2")
    for name, tensor in stored(first, "a").items():
        assert torch.equal(parameters[name.replace("adapters.a.", "adapters.a_2.")], tensor), name
    run = workspace.execute(job)
    assert run.record.over[0].run == second.name
    assert run.record.over[0].label == "b (stack over a)"


def test_full_stilts_starts_from_the_final_encoder(workspace: Workspace) -> None:
    final = load_file(under(workspace, "full", "a").bundle / "model.safetensors")
    model = built(target(workspace, "full", "a"))
    start = {name.removeprefix("roberta."): parameter for name, parameter in of_part(model, "backbone").items()}
    assert start.keys() == final.keys()
    assert all(torch.equal(parameter, final[name]) for name, parameter in start.items())
    key = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(final[key], load_file(workspace.backbone.folder / "model.safetensors")[key])
    assert list(model.heads) == ["t"]


@pytest.mark.parametrize("method", ["bottleneck", "lora", "dora"])
def test_target_starts_alike_under_every_composition(workspace: Workspace, method: str) -> None:
    """Head and adapter; magnitudes of DoRA are norms of the weights that a baked intermediate has changed."""
    compositions = {"bottleneck": ("stack", "fuse", "merge"), "lora": ("stack", "merge", "bake")}
    jobs = [target(workspace, method, "")]
    jobs += [target(workspace, method, "ab", compose) for compose in compositions.get(method, ("stack", "bake"))]
    models = [built(job) for job in jobs]
    starts = [of_part(model, "adapter t") | of_part(model, "head t") for model in models]
    names = [name for name in starts[0] if "magnitude" not in name]
    assert len(names) >= 10
    for start in starts[1:]:
        assert start.keys() == starts[0].keys()
        assert all(torch.equal(start[name], starts[0][name]) for name in names)
    heads = [
        of_part(built(job), "head t")
        for job in (target(workspace, method, "a", "continue"), target(workspace, "full", ""))
    ]
    assert all(torch.equal(parameter, starts[0][name]) for head in heads for name, parameter in head.items())


@pytest.mark.parametrize(
    ("method", "compose", "gone", "least"),
    [
        ("bottleneck", "stack", "a", 1e-3),
        ("bottleneck", "stack", "b", 1e-3),
        # Fusion begins with a fortieth of its weight on each intermediate.
        ("bottleneck", "fuse", "a", 1e-4),
        ("bottleneck", "fuse", "b", 1e-4),
        ("lora", "stack", "a", 1e-3),
    ],
)
def test_zeroing_an_intermediate_changes_the_logits(
    workspace: Workspace, method: str, compose: str, gone: str, least: float
) -> None:
    job = target(workspace, method, "ab", compose)
    data = load_training_data(job)
    model = build_model(job, data)
    fit(job, model, data)
    used = logits_of(job, model)
    assert torch.equal(used, logits_of(job, model))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part_of(name) == f"adapter {gone}":
                parameter.zero_()
    assert (used - logits_of(job, model)).abs().max() > least


@pytest.mark.parametrize(("setting", "wanted"), [(None, 1e-3), ("3e-4", 3e-4), ("1e-2", 1e-2)])
@pytest.mark.parametrize("fusion", ["light", "full"])
def test_fusion_learns_at_a_tenth_of_the_rate(
    workspace: Workspace, fusion: str, setting: str | None, wanted: float
) -> None:
    """Unless the recipe says otherwise; in the recipe of the job, and for the fusion's parameters alone."""
    settings = {"fusion": fusion, **({"fusion_learning_rate": setting} if setting else {})}
    job = target(workspace, "bottleneck", "ab", "fuse", settings=settings)
    assert job.recipe.learning_rate == 1e-2
    assert job.recipe.fusion_learning_rate == pytest.approx(wanted, rel=1e-12)
    model = built(job)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, job.recipe)
    rates = {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}
    assert rates.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    in_fusion = {name for name in rates if part_of(name) == "fusion a,b,nothing"}
    assert len(in_fusion) == 2 * {"light": 3, "full": 5}[fusion]
    for name, rate in rates.items():
        assert rate == pytest.approx(wanted if name in in_fusion else 1e-2, rel=1e-12), name


def test_record_says_the_rate_of_fusion(workspace: Workspace) -> None:
    over = [under(workspace, "bottleneck", name) for name in "ab"]
    rates = []
    for settings in ({}, {"learning_rate": "2e-3"}, {"fusion_learning_rate": "5e-3"}):
        run = workspace.train(task_of(workspace, "t"), over=over, compose="fuse", settings=FAST | settings)
        rates.append(run.record.recipe.fusion_learning_rate)
    assert rates == pytest.approx([1e-3, 2e-4, 5e-3], rel=1e-12)
    stack = workspace.train(task_of(workspace, "t"), over=over, compose="stack", settings=FAST)
    assert stack.record.recipe.fusion_learning_rate is None


@pytest.mark.parametrize(
    ("method", "names", "compose"), [("bottleneck", "ab", "fuse"), ("lora", "ab", "merge"), ("dora", "a", "bake")]
)
def test_one_seed_gives_the_same_bits(
    workspace: Workspace, tmp_path: Path, method: str, names: str, compose: str
) -> None:
    """Also where other random numbers were drawn before."""
    settings = {"merge": "dare"} if compose == "merge" else {}
    runs = []
    for number, seed in enumerate((0, 1, 0)):
        job = target(workspace, method, names, compose, seed=seed, settings=settings)
        runs.append(api.execute(job, RunStore(tmp_path / str(number)), "cpu"))
    first, other, again = map(weights_of, runs)
    assert first.keys() == again.keys() == other.keys()
    assert [name for name in first if not torch.equal(first[name], again[name])] == []
    assert runs[0].record.history == runs[2].record.history
    assert not torch.equal(first["t/heads.t.1.weight"], other["t/heads.t.1.weight"])


# --- controls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_random_control_is_untrained(workspace: Workspace, method: str) -> None:
    path = str(task_of(workspace, "a").path)
    run = workspace.train(task_of(workspace, "t"), method=method, over=[f"{path}@random"])
    (below,) = run.record.over
    assert below.label == "a (random)"
    control = workspace.store.find(below.run)
    fresh = workspace.job(task_of(workspace, "a"), method=method)
    start, stored_tensors = of_part(built(fresh), "adapter a"), stored(control, "a")
    assert {as_stored(name, "a", "a") for name in start} == stored_tensors.keys()
    assert all(torch.equal(parameter, stored_tensors[as_stored(name, "a", "a")]) for name, parameter in start.items())
    record = control.record
    assert (record.control, record.history, record.selected_epoch, record.cost.steps) == ("random", (), 0, 0)
    assert control.name != under(workspace, method, "a").name
    under_target = of_part(load_bundle(run.bundle, workspace.backbone)[0], "adapter a")
    assert all(torch.equal(parameter, start[name]) for name, parameter in under_target.items())


def test_shuffled_control_has_the_same_inputs_and_labels_in_another_order(workspace: Workspace) -> None:
    task = task_of(workspace, "a")
    plain, shuffled = (
        load_training_data(workspace.job(task, control=control, seed=3)).tasks[0] for control in (None, "shuffled")
    )
    labels = plain.train.targets["label"]
    assert shuffled.train.targets["label"].tolist() == np.random.default_rng(3).permutation(labels).tolist()
    assert sorted(shuffled.train.targets["label"].tolist()) == sorted(labels.tolist())
    assert 0.2 < np.mean(shuffled.train.targets["label"] == labels) < 0.6
    for array in ("example", "ids", "id_offsets", "starts", "ends", "unit_offsets"):
        assert np.array_equal(getattr(shuffled.train, array), getattr(plain.train, array)), array
    assert shuffled.train_examples.tolist() == plain.train_examples.tolist()
    assert plain.development is not None
    assert shuffled.development is not None
    assert np.array_equal(shuffled.development.targets["label"], plain.development.targets["label"])
    assert np.array_equal(shuffle_labels(plain.train, task.kind, 3).targets["label"], shuffled.train.targets["label"])


def test_shuffled_control_under_a_target(workspace: Workspace) -> None:
    path = str(task_of(workspace, "a").path)
    run = workspace.train(task_of(workspace, "t"), over=[f"{path}@shuffled"])
    real = workspace.train(task_of(workspace, "a"))
    control = workspace.store.find(run.record.over[0].run)
    assert (run.record.over[0].label, control.record.control) == ("a (shuffled)", "shuffled")
    assert control.record.cost.steps == real.record.cost.steps
    labelled = stored(real, "a")
    assert not any(torch.equal(tensor, labelled[name]) for name, tensor in stored(control, "a").items())


def test_weights_of_a_merge_are_made_one(workspace: Workspace) -> None:
    settings = {"merge_weights": "4,1", "merge_then": "continue"}
    large = target(workspace, "lora", "ab", "merge", settings={**settings, "merge": "cat"})
    small = target(workspace, "lora", "ab", "merge", settings={**settings, "merge": "cat", "merge_weights": "0.8,0.2"})
    first, second = (dict(built(job).named_parameters()) for job in (large, small))
    assert all(torch.allclose(parameter, second[name], atol=1e-7) for name, parameter in first.items())


def test_what_lies_under_an_architecture_by_name_has_it_too(workspace: Workspace) -> None:
    task = english_task(workspace.folder / "named", "named")
    run = workspace.train(task, over=[str(task_of(workspace, "a").path)], method="compacter", settings={"epochs": "1"})
    (below,) = (workspace.store.find(intermediate.run) for intermediate in run.record.over)
    assert (below.record.recipe.adapter, run.record.recipe.adapter) == ("compacter", "compacter")
