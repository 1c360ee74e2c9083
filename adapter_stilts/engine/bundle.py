"""The weights of a run, as safetensors and JSON with checksums.

A bundle of a `bottleneck` run is an adapter setup as `adapters` saves it (`load_adapter_setup` reads it without this
package): one folder for each active adapter and for the fusion, the target's holding its head as well. A bundle of a
`lora`, `dora` or `ia3` run has a folder for each adapter as `peft` saves it (`PeftModel.from_pretrained` reads it),
the baked ones too, and the head in the target's. A bundle of a `full` run is an encoder as `transformers` saves it,
with the head in a folder beside; of a `head` run it is the head. `manifest.json` says what it is and holds size and
SHA-256 of every file. The backbone is named by its Hub id; no path of the machine that trained is in a bundle.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from adapter_stilts.backbone_names import portable_name
from adapter_stilts.files import open_to_readers
from adapter_stilts.model.backbone import Backbone, check_model_config
from adapter_stilts.model.bottleneck import load_bottleneck, load_fusion, whole_fusions
from adapter_stilts.model.composition import PEFT_METHODS
from adapter_stilts.model.packing import install
from adapter_stilts.model.parts import activate, adapter_setup, quiet_adapters, set_dropout
from adapter_stilts.model.peft_adapters import bake_peft_adapters
from adapter_stilts.model.peft_files import load_peft_adapter, save_peft_adapter
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.model.protocols import Model
from adapter_stilts.model.tensors import fill, read_tensors
from adapter_stilts.paths import sha256_file
from adapter_stilts.runs.manifest import (
    ENCODER,
    ENCODER_CONFIG,
    HEAD_CONFIG,
    HEAD_WEIGHTS,
    MANIFEST,
    MULTI_TASK,
    SETUP,
    Manifest,
    StoredFile,
    check_backbone,
    check_bundle,
    own_head_file,
)
from adapter_stilts.runs.stored import write_sealed
from adapter_stilts.tasks.kinds import HeadSpec, find_kind, kind_of_head
from adapter_stilts.trust import check_tree, copy_tree, read_json, refuse


def save_bundle(folder: Path, model: Model, manifest: Manifest, baked: Mapping[str, Path] | None = None) -> Manifest:
    """Write the model's trained parts, and the frozen adapters under them, into the (new) folder; returns the manifest
    with its files. `baked` says where the adapters are saved that the backbone took up.

    The folder lies in a run's folder that appears as a whole: see `RunStore.create`.
    """
    folder.mkdir(parents=True)
    if manifest.method == "full":
        model.config.to_json_file(folder / ENCODER_CONFIG)
        save_file(encoder_weights(model), folder / ENCODER, metadata={"format": "pt"})
    elif manifest.method in PEFT_METHODS:
        for name in manifest.adapters:
            save_peft_adapter(model, folder / name, name, manifest.backbone.id, manifest.backbone.revision)
        for name, source in (baked or {}).items():
            copy_tree(source, folder / name, ignore=shutil.ignore_patterns("*head*"))
    elif manifest.method == "bottleneck":
        whole_fusions(model)
        ours = (manifest.head,) if own_head_file(manifest.kind) is not None else ()
        with _without_heads(model, ours):
            model.save_adapter_setup(str(folder), adapter_setup(manifest.arrangement), use_safetensors=True)
    for name in (manifest.head, *manifest.more_heads):
        save_head(model, folder / name, name, manifest.kind)
    open_to_readers(folder)
    files = {
        path.relative_to(folder).as_posix(): StoredFile(bytes=path.stat().st_size, sha256=sha256_file(path))
        for path in check_tree(folder)
    }
    named = manifest.backbone.model_copy(update={"id": portable_name(manifest.backbone.id)})
    return write_sealed(folder / MANIFEST, manifest.model_copy(update={"files": files, "backbone": named}))


def save_head(model: Model, folder: Path, name: str, kind: str) -> None:
    """Write one head of a task of that kind into a folder, beside the adapter of its name if there is one."""
    folder.mkdir(exist_ok=True)
    if (file := own_head_file(kind)) is not None:
        save_file(model.heads[name].head_weights(), folder / file)
    else:
        model.save_head(str(folder), name, use_safetensors=True)


@contextmanager
def _without_heads(model: Model, names: Sequence[str]) -> Iterator[None]:
    """For the time of the block the model has no heads of these names: the library saves an adapter with the head of
    its name, and knows none of ours."""
    heads = {name: model.heads.pop(name) for name in names}
    try:
        yield
    finally:
        model.heads.update(heads)


def encoder_weights(model: Model) -> dict[str, Tensor]:
    """Weights of the encoder by their names in `XLMRobertaModel`, without what `adapters` adds to it."""
    return {name: tensor.contiguous() for name, tensor in _encoder_tensors(model).items()}


def _encoder_tensors(model: Model) -> dict[str, Tensor]:
    return {
        name: tensor
        for name, tensor in model.roberta.state_dict().items()
        if name.startswith(("embeddings.", "encoder.")) and "adapter" not in name
    }


def load_bundle(folder: Path, backbone: Backbone) -> tuple[Model, Manifest]:
    """The model of a bundle on its backbone, in evaluation mode, its adapters and head active, packing in place.

    Raises StiltsError for a damaged bundle, UsageError for another backbone.
    """
    manifest = check_bundle(folder)
    check_backbone(folder, manifest.backbone, backbone)
    model = load_model(backbone)
    set_dropout(model, manifest.dropout)
    with quiet_adapters():
        if manifest.method == "full":
            load_encoder(model, folder)
        elif manifest.method in PEFT_METHODS:
            for name in (*manifest.baked, *manifest.adapters):
                load_peft_adapter(model, folder / name, name)
                if name in manifest.baked:
                    bake_peft_adapters(model, [name])
        elif manifest.method == "bottleneck":
            _load_setup(model, folder, manifest)
        if own_head_file(manifest.kind) is None:
            load_head(model, folder / manifest.head, manifest)
    activate(model, manifest.arrangement)
    return install(model).eval(), manifest


def _load_setup(model: Model, folder: Path, manifest: Manifest) -> None:
    """Adapters and fusion, without the library's own loading: that takes a pickle where safetensors are missing, and
    leaves weights as they were drawn."""
    arrangement = manifest.arrangement
    if read_json(folder / SETUP).get("adapter_setup") != adapter_setup(arrangement).to_dict():
        refuse(folder / SETUP, "another setup", "that of the manifest")
    for name in manifest.adapters:
        load_bottleneck(model, folder / name, name)
    if arrangement.fusion:
        load_fusion(model, folder / arrangement.fusion, list(manifest.adapters[: manifest.fused]))


def load_head(model: Model, folder: Path, manifest: Manifest) -> None:
    """Put the bundle's head on a model: built from the manifest's labels, filled with the saved weights."""
    path = folder / HEAD_CONFIG
    config = read_json(path).get("config")
    head_type = str(config.get("head_type") if isinstance(config, dict) else None)
    kind = kind_of_head(head_type) if manifest.kind == MULTI_TASK else find_kind(manifest.kind)
    if kind is None or kind.head_type != head_type:
        accepted = "a head of labels" if kind is None else f"{kind.head_type}, as the manifest says ({manifest.kind})"
        refuse(path, f"config.head_type: {head_type[:80]}", accepted)
    assert kind is not None
    kind.add_head(model, manifest.head, HeadSpec(manifest.labels, manifest.dropout))
    if json.loads(json.dumps(model.heads[manifest.head].config)) != config:
        refuse(path, "a head of other labels or layers", f"one of {len(manifest.labels)} labels, as the manifest says")
    part = f"heads.{manifest.head}."
    fill(folder / HEAD_WEIGHTS, {key: weight for key, weight in model.state_dict().items() if key.startswith(part)})


def load_encoder(model: Model, folder: Path) -> None:
    """Replace the encoder's weights by a `full` bundle's, every one of them."""
    check_model_config(folder / ENCODER_CONFIG)
    fill(folder / ENCODER, _encoder_tensors(model))


def load_adapter(model: Model, folder: Path, method: str, name: str) -> None:
    """Put the adapter in a folder of a bundle on a model, without its head, under a name of our choice."""
    if method in PEFT_METHODS:
        load_peft_adapter(model, folder, name)
    else:
        load_bottleneck(model, folder, name)


def head_weights(folder: Path) -> dict[str, Tensor]:
    """Weights of a bundle's head that has a file of its own. Raises StiltsError for damaged files."""
    manifest = check_bundle(folder)
    file = own_head_file(manifest.kind)
    assert file is not None
    return read_tensors(folder / manifest.head / file)
