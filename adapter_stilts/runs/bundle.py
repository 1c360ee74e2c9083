"""The weights of a run, as safetensors and JSON with checksums.

A bundle of a `bottleneck` run is an adapter setup as `adapters` saves it (`load_adapter_setup` reads it without this
package): one folder for each active adapter, the target's holding its head as well. A bundle of a `full` run is an
encoder as `transformers` saves it, with the head in a folder beside. `manifest.json` says what it is and holds size and
SHA-256 of every file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from safetensors.torch import load_file, save_file

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.model.backbone import Backbone, load_model
from adapter_stilts.model.composition import Arrangement, activate, quiet_adapters, set_dropout
from adapter_stilts.model.packing import install
from adapter_stilts.paths import atomic_write_text, sha256_file
from adapter_stilts.runs.stored import Stored, read_stored

MANIFEST = "manifest.json"
ENCODER = "model.safetensors"


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

    `adapters` are the active adapters in order; `labels` the head's labels in the order of their ids; `dropout` what
    the run trained with.
    """

    format: Literal[1] = 1
    task: str
    kind: str
    method: Literal["bottleneck", "full"]
    composition: Literal["none", "stack", "continue"]
    adapters: tuple[str, ...]
    head: str
    labels: tuple[str, ...]
    word_piece: Literal["first_content", "first", "mean"]
    dropout: float
    backbone: StoredBackbone
    files: dict[str, StoredFile] = Field(default_factory=dict)

    @property
    def arrangement(self) -> Arrangement:
        """What is active; nothing trains in a model that was loaded."""
        return Arrangement(self.method, self.composition, self.adapters, (), self.head)


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


def save_bundle(folder: Path, model: Any, manifest: Manifest) -> Manifest:
    """Write the model's trained parts into the (new) folder; returns the manifest with its files.

    The folder lies in a run's folder that appears as a whole: see `RunStore.create`.
    """
    folder.mkdir(parents=True)
    if manifest.method == "full":
        model.config.to_json_file(folder / "config.json")
        save_file(encoder_weights(model), folder / ENCODER, metadata={"format": "pt"})
        model.save_head(str(folder / manifest.head), manifest.head, use_safetensors=True)
    else:
        setup = manifest.arrangement.setup
        model.save_adapter_setup(str(folder), setup, head_setup=manifest.head, use_safetensors=True)
        # Every adapter's folder gets the head of its name, if there is one; only the target's belongs here.
        for name in manifest.adapters:
            if name != manifest.head and name in model.heads:
                raise StiltsError(f"{name}: an intermediate's head is on the model; load intermediates without heads")
    files = {
        path.relative_to(folder).as_posix(): StoredFile(bytes=path.stat().st_size, sha256=sha256_file(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = manifest.model_copy(update={"files": files})
    atomic_write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest


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
    if manifest.method == "full":
        load_encoder(model, folder)
        model.load_head(str(folder / manifest.head), use_safetensors=True)
    else:
        with quiet_adapters():
            model.load_adapter_setup(str(folder), use_safetensors=True)
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


def load_intermediate_adapter(model: Any, folder: Path, adapter: str, load_as: str) -> None:
    """Put one adapter of a bundle on a model, without its head, under another name if need be."""
    model.load_adapter(str(folder / adapter), load_as=load_as, with_head=False, use_safetensors=True)
