"""The weights of a run, as safetensors and JSON with checksums.

A bundle of a `bottleneck` run is an adapter setup as `adapters` saves it (`load_adapter_setup` reads it without this
package): one folder for each active adapter and for the fusion, the target's holding its head as well. A bundle of a
`lora`, `dora` or `ia3` run has a folder for each adapter as `peft` saves it (`PeftModel.from_pretrained` reads it),
the baked ones too, and the head in the target's. A bundle of a `full` run is an encoder as `transformers` saves it,
with the head in a folder beside; of a `head` run it is the head. `manifest.json` says what it is and holds size and
SHA-256 of every file. The backbone is named by its Hub id; no path of the machine that trained is in a bundle.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from safetensors.torch import load_file, save_file

from adapter_stilts.backbone_names import portable_name
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.files import atomic_write_text
from adapter_stilts.model.arrangement import Arrangement, activate, arrange, quiet_adapters, set_dropout
from adapter_stilts.model.backbone import Backbone, load_model
from adapter_stilts.model.bottleneck import load_bottleneck, whole_fusions
from adapter_stilts.model.composition import PEFT_METHODS, Composition
from adapter_stilts.model.masked_lm_head import MaskedLMHead
from adapter_stilts.model.packing import install
from adapter_stilts.model.peft_adapters import bake_peft_adapters
from adapter_stilts.model.peft_files import load_peft_adapter, save_peft_adapter
from adapter_stilts.paths import sha256_file
from adapter_stilts.runs.stored import Stored, read_stored
from adapter_stilts.schema import MethodName

MANIFEST = "manifest.json"
ENCODER = "model.safetensors"
MASKED_LM_HEAD = "masked_lm_head.safetensors"


class StoredFile(Stored):
    """Size in bytes and SHA-256 of one file of a bundle."""

    bytes: int
    sha256: str


class StoredBackbone(Stored):
    """The backbone that a run's weights belong to."""

    id: str
    revision: str | None
    sha256: str
    hidden_size: int
    layers: int


class Manifest(Stored):
    """What a bundle is: enough to build its model again on its backbone.

    `adapters` are the active adapters in order, of which the first `fused` are fused; `baked` those that the backbone
    took up. `labels` are those of the head `head` in the order of their ids; `more_heads` maps the other heads of a run
    on several tasks to theirs; `dropout` is what the run trained with.
    """

    format: Literal[2] = 2
    task: str
    kind: str
    method: MethodName
    composition: Composition
    adapters: tuple[str, ...]
    fused: int
    baked: tuple[str, ...]
    head: str
    labels: tuple[str, ...]
    more_heads: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    word_piece: Literal["first_content", "first", "mean"]
    dropout: float
    backbone: StoredBackbone
    files: dict[str, StoredFile] = Field(default_factory=dict)

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
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("*head*"))
    elif manifest.method == "bottleneck":
        whole_fusions(model)
        model.save_adapter_setup(str(folder), manifest.arrangement.setup, use_safetensors=True)
    for name in (manifest.head, *manifest.more_heads):
        save_head(model, folder / name, name)
    files = {
        path.relative_to(folder).as_posix(): StoredFile(bytes=path.stat().st_size, sha256=sha256_file(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    named = manifest.backbone.model_copy(update={"id": portable_name(manifest.backbone.id)})
    manifest = manifest.model_copy(update={"files": files, "backbone": named})
    atomic_write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def save_head(model: Any, folder: Path, name: str) -> None:
    """Write one head into a folder, beside the adapter of its name if there is one."""
    folder.mkdir(exist_ok=True)
    if isinstance(model.heads[name], MaskedLMHead):
        save_file(model.heads[name].head_weights(), folder / MASKED_LM_HEAD)
    else:
        model.save_head(str(folder), name, use_safetensors=True)


def encoder_weights(model: Any) -> dict[str, Any]:
    """Weights of the encoder by their names in `XLMRobertaModel`, without what `adapters` adds to it."""
    return {
        name: tensor.contiguous()
        for name, tensor in model.roberta.state_dict().items()
        if name.startswith(("embeddings.", "encoder.")) and "adapter" not in name
    }


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle. Raises StiltsError where there is none or it is damaged."""
    return read_stored(folder / MANIFEST, Manifest)


def check_files(folder: Path, files: Mapping[str, StoredFile]) -> None:
    """Raise StiltsError for the first file that is missing, truncated or altered."""
    for name, stored in files.items():
        path = folder / name
        if not path.is_file():
            raise StiltsError(f"{path}: missing from the bundle")
        if path.stat().st_size != stored.bytes:
            raise StiltsError(f"{path}: found {path.stat().st_size} bytes, the manifest says {stored.bytes}")
        if sha256_file(path) != stored.sha256:
            raise StiltsError(f"{path}: altered since it was written (its SHA-256 differs from the manifest's)")


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
    manifest = read_manifest(folder)
    check_backbone(folder, manifest.backbone, backbone)
    check_files(folder, manifest.files)
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
            model.load_adapter_setup(str(folder), use_safetensors=True)
        if manifest.head not in model.heads:
            model.load_head(str(folder / manifest.head), use_safetensors=True)
    activate(model, manifest.arrangement)
    return install(model).eval(), manifest


def load_encoder(model: Any, folder: Path) -> None:
    """Replace the encoder's weights by a `full` bundle's, every one of them."""
    weights = load_file(folder / ENCODER)
    expected = set(encoder_weights(model))
    if set(weights) != expected:
        different = sorted(set(weights) ^ expected)
        raise StiltsError(
            f"{folder / ENCODER}: {len(different)} names differ from the backbone's, first {different[0]}"
        )
    model.roberta.load_state_dict(weights, strict=False)


def load_adapter(model: Any, folder: Path, method: str, name: str) -> None:
    """Put the adapter in a folder of a bundle on a model, without its head, under a name of our choice."""
    if method in PEFT_METHODS:
        load_peft_adapter(model, folder, name)
    else:
        load_bottleneck(model, folder, name)


def masked_lm_weights(folder: Path, head: str) -> dict[str, Any]:
    """Weights of a bundle's head of masked language modelling. Raises StiltsError for damaged files."""
    check_files(folder, read_manifest(folder).files)
    return load_file(folder / head / MASKED_LM_HEAD)
