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
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from adapters.utils import (
    ADAPTERFUSION_CONFIG_NAME,
    CONFIG_NAME,
    HEAD_CONFIG_NAME,
    SAFE_ADAPTERFUSION_WEIGHTS_NAME,
    SAFE_HEAD_WEIGHTS_NAME,
    SAFE_WEIGHTS_NAME,
    SETUP_CONFIG_NAME,
)
from pydantic import Field
from safetensors.torch import save_file

from adapter_stilts.backbone_names import portable_name
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.files import open_to_readers
from adapter_stilts.model.arrangement import Arrangement, activate, arrange, quiet_adapters, set_dropout
from adapter_stilts.model.backbone import Backbone, check_model_config, load_model
from adapter_stilts.model.bottleneck import load_bottleneck, load_fusion, whole_fusions
from adapter_stilts.model.composition import PEFT_METHODS, Composition
from adapter_stilts.model.masked_lm_head import MaskedLMHead
from adapter_stilts.model.packing import install
from adapter_stilts.model.peft_adapters import bake_peft_adapters
from adapter_stilts.model.peft_files import CONFIG, WEIGHTS, load_peft_adapter, save_peft_adapter
from adapter_stilts.model.tensors import fill, read_tensors
from adapter_stilts.paths import sha256_file
from adapter_stilts.runs.stored import Sealed, Stored, read_stored, write_sealed
from adapter_stilts.schema import MethodName
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.trust import (
    Count,
    ModuleName,
    RelativePath,
    Sha256,
    TaskName,
    check_tree,
    copy_tree,
    read_json,
    refuse,
)

MANIFEST = "manifest.json"
ENCODER = "model.safetensors"
MASKED_LM_HEAD = "masked_lm_head.safetensors"
ADAPTER_FILES = (CONFIG_NAME, SAFE_WEIGHTS_NAME)
FUSION_FILES = (ADAPTERFUSION_CONFIG_NAME, SAFE_ADAPTERFUSION_WEIGHTS_NAME)
HEAD_FILES = (HEAD_CONFIG_NAME, SAFE_HEAD_WEIGHTS_NAME)
PEFT_FILES = (CONFIG, WEIGHTS)
# Kinds with a head of labels: the names of `adapters`' heads are theirs.
HEAD_KINDS = ("tagging", "classification")
# Kind of a run on several tasks.
MULTI_TASK = "multi_task"


class StoredFile(Stored):
    """Size in bytes and SHA-256 of one file of a bundle."""

    bytes: Count
    sha256: Sha256


class StoredBackbone(Stored):
    """The backbone that a run's weights belong to."""

    id: str
    revision: str | None
    sha256: str
    hidden_size: Count
    layers: Count


class Manifest(Sealed):
    """What a bundle is: enough to build its model again on its backbone.

    `adapters` are the active adapters in order, of which the first `fused` are fused; `baked` those that the backbone
    took up. `labels` are those of the head `head` in the order of their ids; `more_heads` maps the other heads of a run
    on several tasks to theirs; `dropout` is what the run trained with.
    """

    sealed_format: ClassVar[int] = 3
    format: Literal[2, 3] = 2
    task: TaskName
    kind: str
    method: MethodName
    composition: Composition
    adapters: tuple[ModuleName, ...]
    fused: Count
    baked: tuple[ModuleName, ...]
    head: ModuleName
    labels: tuple[str, ...]
    more_heads: dict[ModuleName, tuple[str, ...]] = Field(default_factory=dict)
    word_piece: Literal["first_content", "first", "mean"]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    backbone: StoredBackbone
    files: dict[RelativePath, StoredFile] = Field(default_factory=dict)

    @property
    def arrangement(self) -> Arrangement:
        """What is active; nothing trains in a model that was loaded."""
        underneath = self.baked if self.composition == "bake" else self.adapters[:-1]
        target = self.adapters[-1] if self.adapters else self.head
        return arrange(self.method, self.composition, target, underneath, (self.head,), phase="use")


def stored_backbone(backbone: Backbone) -> StoredBackbone:
    """What a run says of the backbone that it stands on."""
    config = backbone.config
    return StoredBackbone(
        id=backbone.id,
        revision=backbone.revision,
        sha256=backbone.sha256,
        hidden_size=config.hidden_size,
        layers=config.num_hidden_layers,
    )


def save_bundle(folder: Path, model: Any, manifest: Manifest, baked: Mapping[str, Path] | None = None) -> Manifest:
    """Write the model's trained parts, and the frozen adapters under them, into the (new) folder; returns the manifest
    with its files. `baked` says where the adapters are saved that the backbone took up.

    The folder lies in a run's folder that appears as a whole: see `RunStore.create`.
    """
    folder.mkdir(parents=True)
    if manifest.method == "full":
        model.config.to_json_file(folder / "config.json")
        save_file(encoder_weights(model), folder / ENCODER, metadata={"format": "pt"})
    elif manifest.method in PEFT_METHODS:
        for name in manifest.adapters:
            save_peft_adapter(model, folder / name, name, manifest.backbone.id, manifest.backbone.revision)
        for name, source in (baked or {}).items():
            copy_tree(source, folder / name, ignore=shutil.ignore_patterns("*head*"))
    elif manifest.method == "bottleneck":
        whole_fusions(model)
        model.save_adapter_setup(str(folder), manifest.arrangement.setup, use_safetensors=True)
    for name in (manifest.head, *manifest.more_heads):
        save_head(model, folder / name, name)
    open_to_readers(folder)
    files = {
        path.relative_to(folder).as_posix(): StoredFile(bytes=path.stat().st_size, sha256=sha256_file(path))
        for path in check_tree(folder)
    }
    named = manifest.backbone.model_copy(update={"id": portable_name(manifest.backbone.id)})
    return write_sealed(folder / MANIFEST, manifest.model_copy(update={"files": files, "backbone": named}))


def save_head(model: Any, folder: Path, name: str) -> None:
    """Write one head into a folder, beside the adapter of its name if there is one."""
    folder.mkdir(exist_ok=True)
    if isinstance(model.heads[name], MaskedLMHead):
        save_file(model.heads[name].head_weights(), folder / MASKED_LM_HEAD)
    else:
        model.save_head(str(folder), name, use_safetensors=True)


def encoder_weights(model: Any) -> dict[str, Any]:
    """Weights of the encoder by their names in `XLMRobertaModel`, without what `adapters` adds to it."""
    return {name: tensor.contiguous() for name, tensor in _encoder_tensors(model).items()}


def _encoder_tensors(model: Any) -> dict[str, Any]:
    return {
        name: tensor
        for name, tensor in model.roberta.state_dict().items()
        if name.startswith(("embeddings.", "encoder.")) and "adapter" not in name
    }


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle. Raises StiltsError where there is none or it is damaged."""
    return read_stored(folder / MANIFEST, Manifest)


def check_bundle(folder: Path) -> Manifest:
    """The manifest of a bundle whose files are exactly what it says, and those that such a bundle has: no pickle, no
    code, no link. Raises StiltsError for the first that is missing, left over, truncated or altered."""
    found = {path.relative_to(folder).as_posix() for path in check_tree(folder)}
    manifest = read_manifest(folder)
    expected = _files_of(manifest)
    for name in sorted(expected ^ manifest.files.keys()):
        what = "lists no" if name in expected else "lists"
        raise StiltsError(f"{folder / MANIFEST}: files: {what} {name}, accepted the files of its adapters and heads")
    for name, stored in manifest.files.items():
        path = folder / name
        if name not in found:
            raise StiltsError(f"{path}: missing from the bundle")
        if path.stat().st_size != stored.bytes:
            raise StiltsError(f"{path}: found {path.stat().st_size} bytes, the manifest says {stored.bytes}")
        if sha256_file(path) != stored.sha256:
            raise StiltsError(f"{path}: altered since it was written (its SHA-256 differs from the manifest's)")
    if surplus := sorted(found - expected - {MANIFEST}):
        refuse(folder / surplus[0], "a file that the manifest does not list", "none beside the bundle's own")
    return manifest


def _files_of(manifest: Manifest) -> set[str]:
    """The files of such a bundle, without the manifest."""
    folders: list[tuple[str, tuple[str, ...]]] = []
    if manifest.method == "full":
        folders.append((".", ("config.json", ENCODER)))
    elif manifest.method in PEFT_METHODS:
        folders += [(name, PEFT_FILES) for name in (*manifest.baked, *manifest.adapters)]
    elif manifest.method == "bottleneck":
        folders += [(".", (SETUP_CONFIG_NAME,)), *((name, ADAPTER_FILES) for name in manifest.adapters)]
        folders += [(fusion, FUSION_FILES)] if (fusion := manifest.arrangement.fusion) else []
    head = (MASKED_LM_HEAD,) if manifest.kind == "masked_lm" else HEAD_FILES
    folders += [(name, head) for name in (manifest.head, *manifest.more_heads)]
    return {(PurePosixPath(folder) / name).as_posix() for folder, names in folders for name in names}


def check_backbone(folder: Path, theirs: StoredBackbone, backbone: Backbone) -> None:
    """Raise UsageError where a run's weights belong to another backbone."""
    if theirs.sha256 != backbone.sha256:
        ours = stored_backbone(backbone)
        raise UsageError(
            f"{folder}: trained on {theirs.id} ({theirs.layers} x {theirs.hidden_size}, {theirs.sha256[:12]}), "
            f"found {ours.id} ({ours.layers} x {ours.hidden_size}, {ours.sha256[:12]})"
        )


def load_bundle(folder: Path, backbone: Backbone) -> tuple[Any, Manifest]:
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
        if manifest.kind != "masked_lm":
            load_head(model, folder / manifest.head, manifest)
    activate(model, manifest.arrangement)
    return install(model).eval(), manifest


def _load_setup(model: Any, folder: Path, manifest: Manifest) -> None:
    """Adapters and fusion, without the library's own loading: that takes a pickle where safetensors are missing, and
    leaves weights as they were drawn."""
    arrangement = manifest.arrangement
    if read_json(folder / SETUP_CONFIG_NAME).get("adapter_setup") != arrangement.setup.to_dict():
        refuse(folder / SETUP_CONFIG_NAME, "another setup", "that of the manifest")
    for name in manifest.adapters:
        load_bottleneck(model, folder / name, name)
    if arrangement.fusion:
        load_fusion(model, folder / arrangement.fusion, list(manifest.adapters[: manifest.fused]))


def load_head(model: Any, folder: Path, manifest: Manifest) -> None:
    """Put the bundle's head on a model: built from the manifest's labels, filled with the saved weights."""
    path = folder / HEAD_CONFIG_NAME
    config = read_json(path).get("config")
    kind = config.get("head_type") if isinstance(config, dict) else None
    if kind not in HEAD_KINDS or manifest.kind not in (kind, MULTI_TASK):
        refuse(path, f"config.head_type: {str(kind)[:80]}", f"{manifest.kind}, as the manifest says")
    find_kind(kind).add_head(model, manifest.head, manifest.labels, manifest.dropout)
    if json.loads(json.dumps(model.heads[manifest.head].config)) != config:
        refuse(path, "a head of other labels or layers", f"one of {len(manifest.labels)} labels, as the manifest says")
    part = f"heads.{manifest.head}."
    fill(folder / SAFE_HEAD_WEIGHTS_NAME, {key: own for key, own in model.state_dict().items() if key.startswith(part)})


def load_encoder(model: Any, folder: Path) -> None:
    """Replace the encoder's weights by a `full` bundle's, every one of them."""
    check_model_config(folder / "config.json")
    fill(folder / ENCODER, _encoder_tensors(model))


def load_adapter(model: Any, folder: Path, method: str, name: str) -> None:
    """Put the adapter in a folder of a bundle on a model, without its head, under a name of our choice."""
    if method in PEFT_METHODS:
        load_peft_adapter(model, folder, name)
    else:
        load_bottleneck(model, folder, name)


def masked_lm_weights(folder: Path, head: str) -> dict[str, Any]:
    """Weights of a bundle's head of masked language modelling. Raises StiltsError for damaged files."""
    check_bundle(folder)
    return read_tensors(folder / head / MASKED_LM_HEAD)
