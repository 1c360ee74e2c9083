"""What a bundle is: `manifest.json`, which says how its model is built again, and the files that it must hold.

Nothing of a model is loaded here, nor any library of models: `bundle` saves and loads the weights.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.model.arrangement import Arrangement, arrange
from adapter_stilts.model.composition import PEFT_METHODS, Composition
from adapter_stilts.paths import sha256_file
from adapter_stilts.runs.stored import Sealed, Stored, first_problem, read_stored
from adapter_stilts.schema import MethodName
from adapter_stilts.tasks.kinds import KINDS, find_kind
from adapter_stilts.tasks.kinds.contract import Options
from adapter_stilts.trust import Count, ModuleName, RelativePath, Sha256, TaskName, check_tree, refuse

if TYPE_CHECKING:
    from adapter_stilts.model.backbone import Backbone

MANIFEST = "manifest.json"
ENCODER_CONFIG, ENCODER = "config.json", "model.safetensors"
# As `adapters` names its files.
SETUP = "adapter_setup.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter.safetensors"
FUSION_CONFIG, FUSION_WEIGHTS = "adapter_fusion_config.json", "model_adapter_fusion.safetensors"
HEAD_CONFIG, HEAD_WEIGHTS = "head_config.json", "model_head.safetensors"
# As `peft` names its files.
PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Kind of a run on several tasks.
MULTI_TASK = "multi_task"


# Labels of one head: more than any inventory has, and few enough to be built before they are looked at.
MOST_LABELS = 50_000


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
    on several tasks to theirs; `dropout` is what the run trained with. `word_piece` is the piece of a word that was
    read (empty where there are no words), `options` those of its kind, in files that have them.
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
    labels: Annotated[tuple[str, ...], Field(max_length=MOST_LABELS)]
    more_heads: dict[ModuleName, tuple[str, ...]] = Field(default_factory=dict)
    word_piece: str
    options: dict[str, Any] = Field(default_factory=dict)
    dropout: Annotated[float, Field(ge=0, lt=1)]
    backbone: StoredBackbone
    files: dict[RelativePath, StoredFile] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_options(self) -> Manifest:
        if self.kind in KINDS:
            try:
                self.kind_options()
            except ValidationError as error:
                raise ValueError(first_problem(error)) from None
        return self

    def kind_options(self) -> Options:
        """The options of its kind, which decided how it was encoded. Raises UsageError for an unknown kind."""
        model = find_kind(self.kind).options
        of_words = {"word_piece": self.word_piece} if "word_piece" in model.model_fields else {}
        return model.model_validate_json(json.dumps({**self.options, **of_words}))

    @property
    def arrangement(self) -> Arrangement:
        """What is active; nothing trains in a model that was loaded."""
        underneath = self.baked if self.composition == "bake" else self.adapters[:-1]
        target = self.adapters[-1] if self.adapters else self.head
        return arrange(self.method, self.composition, target, underneath, (self.head,), phase="use")


def own_head_file(kind: str) -> str | None:
    """The file of the head of a run of that kind, where it is one of ours; None where it is one of `adapters`, as all
    heads of several tasks are. Raises UsageError for an unknown kind."""
    if kind == MULTI_TASK:
        return None
    described = find_kind(kind)
    return described.head_file if described.head_type is None else None


def stored_backbone(backbone: Backbone) -> StoredBackbone:
    """What a run says of the backbone that it stands on."""
    return StoredBackbone(
        id=backbone.id,
        revision=backbone.revision,
        sha256=backbone.sha256,
        hidden_size=backbone.summary.hidden_size,
        layers=backbone.summary.layers,
    )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle. Raises StiltsError where there is none or it is damaged."""
    return read_stored(folder / MANIFEST, Manifest)


def check_bundle(folder: Path) -> Manifest:
    """The manifest of a bundle whose files are exactly what it says, and those that such a bundle has: no pickle, no
    code, no link. Raises StiltsError for the first that is missing, left over, truncated or altered."""
    present = {path.relative_to(folder).as_posix() for path in check_tree(folder)}
    manifest = read_manifest(folder)
    expected = _files_of(manifest)
    for name in sorted(expected ^ manifest.files.keys()):
        what = "lists no" if name in expected else "lists"
        raise StiltsError(f"{folder / MANIFEST}: files: {what} {name}, accepted the files of its adapters and heads")
    for name, stored in manifest.files.items():
        path = folder / name
        if name not in present:
            raise StiltsError(f"{path}: missing from the bundle")
        if path.stat().st_size != stored.bytes:
            raise StiltsError(f"{path}: found {path.stat().st_size} bytes, the manifest says {stored.bytes}")
        if sha256_file(path) != stored.sha256:
            raise StiltsError(f"{path}: altered since it was written (its SHA-256 differs from the manifest's)")
    if surplus := sorted(present - expected - {MANIFEST}):
        refuse(folder / surplus[0], "a file that the manifest does not list", "none beside the bundle's own")
    return manifest


def _files_of(manifest: Manifest) -> set[str]:
    """The files of such a bundle, without the manifest."""
    folders: list[tuple[str, tuple[str, ...]]] = []
    if manifest.method == "full":
        folders.append((".", (ENCODER_CONFIG, ENCODER)))
    elif manifest.method in PEFT_METHODS:
        folders += [(name, (PEFT_CONFIG, PEFT_WEIGHTS)) for name in (*manifest.baked, *manifest.adapters)]
    elif manifest.method == "bottleneck":
        folders += [(".", (SETUP,))]
        folders += [(name, (ADAPTER_CONFIG, ADAPTER_WEIGHTS)) for name in manifest.adapters]
        folders += [(fusion, (FUSION_CONFIG, FUSION_WEIGHTS))] if (fusion := manifest.arrangement.fusion) else []
    file = own_head_file(manifest.kind)
    head = (HEAD_CONFIG, HEAD_WEIGHTS) if file is None else (file,)
    folders += [(name, head) for name in (manifest.head, *manifest.more_heads)]
    return {(PurePosixPath(folder) / name).as_posix() for folder, names in folders for name in names}


def check_backbone(folder: Path, stored: StoredBackbone, backbone: Backbone) -> None:
    """Raise UsageError where a run's weights belong to another backbone."""
    if stored.sha256 != backbone.sha256:
        given = stored_backbone(backbone)
        raise UsageError(
            f"{folder}: trained on {stored.id} ({stored.layers} x {stored.hidden_size}, {stored.sha256[:12]}), "
            f"found {given.id} ({given.layers} x {given.hidden_size}, {given.sha256[:12]})"
        )
