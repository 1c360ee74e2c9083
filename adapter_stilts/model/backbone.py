"""Backbones: any XLM-R checkpoint, from a folder, a Hub mirror, the Hub, or the embedded one.

No weights are read here, so that a run's name can be computed at once; `pretrained.load_model` reads them. Whatever the
source, what is loaded is a folder with config.json, tokenizer.json and safetensors: no pickle, no code. The libraries
that read configuration and tokenizer are imported when one of them is asked for.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from adapter_stilts.backbone_names import ACCEPTED, DEFAULT_BACKBONE, EMBEDDED, hint, is_backbone_name
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.model.backbone_files import (
    CONFIG,
    TOKENIZER,
    download_weights,
    folder_sha256,
    hub_file,
    one_line,
    weight_files,
    weight_places,
)
from adapter_stilts.model.embedded import build_embedded, embedded_sha256
from adapter_stilts.paths import (
    cache_dir,
    mirror_dir,
    read_note,
    remembered_sha256,
    resolve_repository,
    user_path,
    write_note,
)
from adapter_stilts.tasks.tokenizing import tokenizer_hash
from adapter_stilts.trust import LARGEST_TOKENIZER, read_json, regular_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig

PINNED_REVISIONS = {
    "FacebookAI/xlm-roberta-large": "c23d21b0620b635a76227c604d44e43a9f0ee389",
    "FacebookAI/xlm-roberta-base": "e73636d4f797dec63c3081bb6ed5c7b0bb3f2089",
}
_FOREIGN_CODE = {"auto_map", "trust_remote_code", "quantization_config", "custom_pipelines"}
# What decides the encoder's states and those of its masked LM head. Nothing else of a checkpoint's configuration is
# taken over: no adapters, no sizes of other heads, no files that hold other weights.
_ENCODER_KEYS = {
    "attention_probs_dropout_prob",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_dropout_prob",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "pad_token_id",
    "tie_word_embeddings",
    "type_vocab_size",
    "vocab_size",
}
# Values of other keys under which the encoder would compute something else.
_ONLY = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
# Sizes beyond which no XLM-R will go: what is built before weights are read takes time and memory by them.
_LARGEST = {
    "hidden_size": 65_536,
    "num_hidden_layers": 1_000,
    "num_attention_heads": 1_024,
    "intermediate_size": 1_048_576,
    "vocab_size": 8_000_000,
    "max_position_embeddings": 1_048_576,
    "type_vocab_size": 1_024,
}
_SHARES = ("attention_probs_dropout_prob", "hidden_dropout_prob", "initializer_range", "layer_norm_eps")
# Raise it where a summary would say something else of the same files, or other files are accepted.
SUMMARY_VERSION = 1


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder before its weights are read.

    id: 'embedded', a Hub id, or a folder as it was given. revision: the Hub commit; None for folders (a mirror's too)
    and 'embedded'. sha256: identity by content: of config, tokenizer and weights; 'hub:' and the commit from the Hub.
    folder: holds config.json, tokenizer.json and, unless the Hub has still to be asked for them, the weights.
    note: where the cache remembers the summary of files of this content.
    """

    id: str
    revision: str | None
    sha256: str
    folder: Path
    note: Path = field(repr=False, compare=False)

    @cached_property
    def config(self) -> XLMRobertaConfig:
        """The encoder's configuration."""
        return _read_config(self.folder / CONFIG)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The checkpoint's fast tokenizer, this thread's own."""
        return _read_tokenizer(self.folder / TOKENIZER, self.config)

    @cached_property
    def summary(self) -> Summary:
        """Sizes and the tokenizer's hash: read once for files of this content, and remembered in the cache."""
        known = _read_summary(self.note)
        if known is None:
            config = self.config
            known = Summary(
                hidden_size=config.hidden_size,
                layers=config.num_hidden_layers,
                intermediate_size=config.intermediate_size,
                vocabulary=config.vocab_size,
                tokenizer_sha256=tokenizer_hash(self.tokenizer),
            )
            write_note(self.note, asdict(known))
        return known


@dataclass(frozen=True)
class Summary:
    """What a run's name and record, and the estimate of a plan, take from a backbone's configuration and tokenizer."""

    hidden_size: int
    layers: int
    intermediate_size: int
    vocabulary: int
    tokenizer_sha256: str


def load_backbone(
    backbone: str | Path = DEFAULT_BACKBONE, revision: str | None = None, mirror: Path | None = None
) -> Backbone:
    """Finds a backbone and reads its configuration and tokenizer, but no weights.

    backbone: 'embedded', a folder, or a Hub id, which a mirror folder (`mirror`, else $ADAPTER_STILTS_HUB_MIRROR) may
    serve. revision: a Hub branch, tag or commit; the default is pinned for XLM-R Base and Large.
    Raises UsageError for what is not an XLM-R checkpoint in safetensors, or cannot be found.
    """
    location = _locate(str(backbone), revision, mirror)
    _check_readable(location.folder)
    loaded = _backbone_in(location)
    _ = loaded.tokenizer  # now: later its file may be another
    return loaded


def find_backbone(
    backbone: str | Path = DEFAULT_BACKBONE, revision: str | None = None, mirror: Path | None = None
) -> Backbone:
    """As `load_backbone`, for whoever needs its identity and summary alone: where files of this content were read
    before, configuration and tokenizer wait until they are asked for, and neither PyTorch nor `transformers` is loaded.
    """
    location = _locate(str(backbone), revision, mirror)
    if not _is_known(location.folder):
        _check_readable(location.folder)
    return _backbone_in(location)


def fetch_weights(backbone: Backbone) -> None:
    """Makes sure that the weights lie in the backbone's folder, asking the Hub for them if need be.

    Raises UsageError where there are none in safetensors, DataError where the Hub cannot give them.
    """
    if backbone.revision is not None:
        download_weights(backbone.id, backbone.revision)
    weight_files(backbone.folder)


def has_masked_lm_head(backbone: Backbone) -> bool:
    """Whether the checkpoint has a masked LM head whose decoder is the word embedding; the embedded one has none.

    Reads no weights, but asks the Hub for them if need be (and raises what `fetch_weights` raises). Raises DataError
    for files that cannot be read.
    """
    fetch_weights(backbone)
    tied = read_json(regular_file(backbone.folder / CONFIG, backbone.folder)).get("tie_word_embeddings", True)
    return bool(tied) and any(name.startswith("lm_head.") for name in weight_places(backbone.folder))


# --- where it lies ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Location:
    """Where a backbone lies. `sha256`: its identity, where that is not of the files in the folder."""

    name: str
    folder: Path
    revision: str | None = None
    sha256: str | None = None


def _backbone_in(location: _Location) -> Backbone:
    sha256 = location.sha256 or folder_sha256(location.folder)
    return Backbone(location.name, location.revision, sha256, location.folder, _summary_note(location.folder))


def _locate(backbone: str, revision: str | None, mirror: Path | None) -> _Location:
    if backbone == EMBEDDED:
        _refuse_revision(backbone, revision)
        return _Location(backbone, build_embedded(), sha256=embedded_sha256())
    given = user_path(backbone)
    if given.is_dir():
        _refuse_revision(backbone, revision)
        return _Location(backbone, given)
    if given.is_absolute() or backbone.startswith((".", "~")):
        raise UsageError(f"backbone {backbone!r}: no such folder")
    mirror = mirror_dir(mirror)
    repository = resolve_repository(backbone, mirror)
    if isinstance(repository, Path):
        return _Location(backbone, repository)
    if not is_backbone_name(backbone) and (near := hint(backbone)):
        raise UsageError(f"backbone {backbone!r}: found no such folder{near}, accepted {ACCEPTED}")
    return _on_hub(backbone, revision or PINNED_REVISIONS.get(backbone), mirror)


def _refuse_revision(backbone: str, revision: str | None) -> None:
    if revision is not None:
        raise UsageError(f"backbone {backbone!r} has no revisions, found revision {revision!r}; leave it out")


def _on_hub(backbone: str, revision: str | None, mirror: Path | None) -> _Location:
    tried = f"backbone {backbone!r}: no such folder" + ("" if mirror is None else f", nor in the mirror {mirror}")
    at = f" at revision {revision!r}" if revision else ""
    try:
        paths = [hub_file(backbone, name, revision) for name in (TOKENIZER, CONFIG)]
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UsageError(f"{tried}, nor on the Hub{at} ({type(error).__name__})") from error
    except LocalEntryNotFoundError as error:
        raise UsageError(
            f"{tried}, and the Hub could not be reached; give a folder, a mirror (--hub-mirror), or 'embedded'"
        ) from error
    except EntryNotFoundError as error:
        raise UsageError(f"backbone {backbone!r}: no config.json with tokenizer.json on the Hub{at}") from error
    except OSError as error:
        raise UsageError(f"{tried}, and the Hub{at} says: {one_line(error)}") from error
    commit = paths[0].parent.name  # the Hub's cache lays files out as snapshots/COMMIT/NAME
    return _Location(backbone, paths[0].parent, commit, f"hub:{commit}")


# --- configuration and tokenizer --------------------------------------------------------------------------------------


def _check_readable(folder: Path) -> None:
    """Raise UsageError for a configuration or a tokenizer that cannot be used."""
    _read_tokenizer(folder / TOKENIZER, _read_config(folder / CONFIG))


def _is_known(folder: Path) -> bool:
    """Whether files of this content were read before; only those that can be used have a summary."""
    try:
        return _read_summary(_summary_note(folder)) is not None
    except StiltsError:  # reading them says what is wrong
        return False


def _read_summary(note: Path) -> Summary | None:
    content = read_note(note)
    return None if content is None else Summary(**content)  # type: ignore[arg-type]


def _summary_note(folder: Path) -> Path:
    files = [remembered_sha256(regular_file(folder / name, folder)) for name in (CONFIG, TOKENIZER)]
    # What the libraries make of a file may change with them.
    identity = [SUMMARY_VERSION, *files, version("transformers"), version("tokenizers")]
    return cache_dir() / "backbones" / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()}.json"


def check_model_config(path: Path) -> dict[str, Any]:
    """The content of a checkpoint's config.json. Raises UsageError for another model than XLM-R, for sizes that none
    has, and for keys that ask for code or weights from elsewhere."""
    from transformers.activations import ACT2FN

    try:
        raw = read_json(regular_file(path, path.parent))
    except StiltsError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UsageError(f"{path}: no readable configuration of a model ({reason})") from error
    for key in sorted(_FOREIGN_CODE & raw.keys()):
        raise UsageError(f"{path}: key {key} asks for code from the checkpoint, which is never run; remove the key")
    model_type = raw.get("model_type")
    if model_type != "xlm-roberta":
        raise UsageError(f"{path}: model_type is {str(model_type)[:80]!r}; only 'xlm-roberta' is supported")
    for key, most in _LARGEST.items():
        if key in raw and not (type(raw[key]) is int and 0 < raw[key] <= most):
            raise UsageError(f"{path}: {key}: found {str(raw[key])[:80]}, accepted 1 to {most:,}")
    if not isinstance(activation := raw.get("hidden_act", "gelu"), str) or activation not in ACT2FN:
        raise UsageError(f"{path}: hidden_act: found {str(activation)[:80]}, accepted {', '.join(sorted(ACT2FN))}")
    if not isinstance(raw.get("tie_word_embeddings", True), bool):
        raise UsageError(f"{path}: tie_word_embeddings: found {str(raw['tie_word_embeddings'])[:80]}, accepted a bool")
    for key, only in _ONLY.items():
        if raw.get(key, only) != only:
            raise UsageError(f"{path}: {key}: found {str(raw[key])[:80]}, accepted {only}")
    for key in _SHARES:
        if key in raw and not (type(raw[key]) in (int, float) and 0 <= raw[key] < 1):
            raise UsageError(f"{path}: {key}: found {str(raw[key])[:80]}, accepted 0 to 1")
    return raw


def _read_config(path: Path) -> XLMRobertaConfig:
    from transformers import XLMRobertaConfig

    raw = check_model_config(path)
    try:
        config = XLMRobertaConfig.from_dict({key: value for key, value in raw.items() if key in _ENCODER_KEYS})
    except Exception as error:  # whatever the library stumbles over in a value of another type
        raise UsageError(f"{path}: no readable configuration of a model ({one_line(error)})") from error
    if config.hidden_size % config.num_attention_heads:
        sizes = f"{config.hidden_size} and {config.num_attention_heads}"
        raise UsageError(f"{path}: hidden_size and num_attention_heads: found {sizes}, accepted a multiple")
    if type(config.pad_token_id) is not int or not 0 <= config.pad_token_id < config.max_position_embeddings - 2:
        raise UsageError(f"{path}: pad_token_id: found {str(config.pad_token_id)[:80]}, accepted that of a piece")
    return config


@lru_cache(maxsize=2)
def _tokenizer(path: Path, _sha256: str, longest: int, _thread: int) -> tuple[PreTrainedTokenizerFast, int]:
    """The tokenizer in a file, and its highest id.

    Read once for all backbones of one content: it takes a second and 280 MB. Two threads cannot use one at a time: each
    has its own.
    """
    from transformers import XLMRobertaTokenizerFast

    try:
        tokenizer = XLMRobertaTokenizerFast(tokenizer_file=str(path), model_max_length=longest)
        return tokenizer, max(tokenizer.get_vocab().values(), default=0)
    except Exception as error:  # `tokenizers` raises bare Exception
        raise UsageError(f"{path}: not a tokenizer: {one_line(error)}") from error


def _read_tokenizer(path: Path, config: XLMRobertaConfig) -> PreTrainedTokenizerFast:
    """From tokenizer.json alone, which is part of the backbone's identity. Positions start at padding_idx + 1."""
    if not path.exists():
        raise UsageError(f"{path}: missing; save the checkpoint's fast tokenizer beside its weights")
    if regular_file(path, path.parent).stat().st_size > LARGEST_TOKENIZER:
        raise UsageError(f"{path}: found more than {LARGEST_TOKENIZER:,} bytes, accepted a tokenizer")
    longest = config.max_position_embeddings - config.pad_token_id - 1
    tokenizer, highest = _tokenizer(path, remembered_sha256(path), longest, threading.get_ident())
    if highest >= config.vocab_size:
        raise UsageError(f"{path}: {highest + 1} pieces, but config.json says vocab_size {config.vocab_size}")
    return tokenizer
