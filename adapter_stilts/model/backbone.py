"""Backbones: any XLM-R checkpoint, from a folder, a Hub mirror, the Hub, or the embedded one.

`load_backbone` reads no weights, so that a run's name can be computed at once; `load_model` reads them. Whatever the
source, what is loaded is a folder with config.json, tokenizer.json and safetensors: no pickle, no code.
"""

import copy
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from adapters import XLMRobertaAdapterModel
from huggingface_hub import hf_hub_download, model_info
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch import nn
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaTokenizerFast
from transformers.activations import ACT2FN
from transformers.utils import logging as transformers_logging

from adapter_stilts.backbone_names import ACCEPTED, DEFAULT_BACKBONE, EMBEDDED, hint, is_backbone_name, portable_name
from adapter_stilts.errors import DataError, StiltsError, UsageError
from adapter_stilts.model.embedded import build_embedded, embedded_sha256
from adapter_stilts.model.tensors import check_finite
from adapter_stilts.paths import mirror_dir, remembered_sha256, resolve_repository, user_path
from adapter_stilts.threads import ONE_AT_A_TIME
from adapter_stilts.trust import LARGEST_TOKENIZER, names_in, read_json, refuse, regular_file, tensor_shapes

PINNED_REVISIONS = {
    "FacebookAI/xlm-roberta-large": "c23d21b0620b635a76227c604d44e43a9f0ee389",
    "FacebookAI/xlm-roberta-base": "e73636d4f797dec63c3081bb6ed5c7b0bb3f2089",
}
HUB_TIMEOUT_SECONDS = 10.0
# Beside a checkpoint, `transformers` would follow it to other weights.
ADAPTER_OF_PEFT = "adapter_config.json"
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
WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder before its weights are read.

    id: 'embedded', a Hub id, or a folder as it was given. revision: the Hub commit; None for folders (a mirror's too)
    and 'embedded'. sha256: identity by content: of config, tokenizer and weights; 'hub:' and the commit from the Hub.
    folder: holds config.json, tokenizer.json and, unless the Hub has still to be asked for them, the weights.
    """

    id: str
    revision: str | None
    sha256: str
    folder: Path
    tokenizer: PreTrainedTokenizerFast = field(repr=False, compare=False)
    config: XLMRobertaConfig = field(repr=False, compare=False)


class FirstTokenPooler(nn.Module):
    """XLM-R's pooler without parameters: (batch, length, hidden) -> (batch, hidden), the state of `<s>`.

    No head here reads the pooled state, and many checkpoints have no pooler: the original would add a dense layer of
    random, never trained weights to the model and to its number of parameters.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states[:, 0]


def load_backbone(
    backbone: str | Path = DEFAULT_BACKBONE, revision: str | None = None, mirror: Path | None = None
) -> Backbone:
    """Finds a backbone and reads its configuration and tokenizer, but no weights.

    backbone: 'embedded', a folder, or a Hub id, which a mirror folder (`mirror`, else $ADAPTER_STILTS_HUB_MIRROR) may
    serve. revision: a Hub branch, tag or commit; the default is pinned for XLM-R Base and Large.
    Raises UsageError for what is not an XLM-R checkpoint in safetensors, or cannot be found.
    """
    backbone = str(backbone)
    if backbone == EMBEDDED:
        _refuse_revision(backbone, revision)
        return _from_folder(backbone, build_embedded(), embedded_sha256())
    given = user_path(backbone)
    if given.is_dir():
        _refuse_revision(backbone, revision)
        return _from_folder(backbone, given)
    if given.is_absolute() or backbone.startswith((".", "~")):
        raise UsageError(f"backbone {backbone!r}: no such folder")
    mirror = mirror_dir(mirror)
    found = resolve_repository(backbone, mirror)
    if isinstance(found, Path):
        return _from_folder(backbone, found)
    if not is_backbone_name(backbone) and (near := hint(backbone)):
        raise UsageError(f"backbone {backbone!r}: found no such folder{near}, accepted {ACCEPTED}")
    return _from_hub(backbone, revision or PINNED_REVISIONS.get(backbone), mirror)


def load_model(backbone: Backbone) -> XLMRobertaAdapterModel:
    """The backbone with `adapters`' flexible heads: float32, sdpa attention, eval mode, no adapter and no head yet.

    Head weights of the checkpoint (MLM, classification) and its pooler are left out; the random state is untouched.
    Raises DataError if a weight of the encoder is missing, left over, of another shape, or unreadable.
    """
    fetch_weights(backbone)
    _check_weights(backbone)
    config = copy.deepcopy(backbone.config)
    # `adapters` writes it into what it saves; the folder that the weights were read from is nobody's business.
    name = portable_name(backbone.id)
    config.architectures = None  # else `adapters` turns the checkpoint's own head into an active head 'default'
    try:
        with ONE_AT_A_TIME, _quiet_transformers(), torch.random.fork_rng(devices=[]):
            model, report = XLMRobertaAdapterModel.from_pretrained(
                str(backbone.folder),
                config=config,
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # as above, and whatever is wrong with the files
        raise DataError(f"{backbone.folder}: weights cannot be read: {_one_line(error)}") from error
    _check_report(backbone.folder, report)
    model.config.name_or_path = name
    check_finite(backbone.folder, model.state_dict())
    model.roberta.pooler = FirstTokenPooler()
    return model.eval()


def fetch_weights(backbone: Backbone) -> None:
    """Makes sure that the weights lie in the backbone's folder, asking the Hub for them if need be.

    Raises UsageError where there are none in safetensors, DataError where the Hub cannot give them.
    """
    if backbone.revision is not None:
        _download_weights(backbone.id, backbone.revision)
    _weight_files(backbone.folder)


def _refuse_revision(backbone: str, revision: str | None) -> None:
    if revision is not None:
        raise UsageError(f"backbone {backbone!r} has no revisions, found revision {revision!r}; leave it out")


def _from_folder(backbone: str, folder: Path, sha256: str | None = None, revision: str | None = None) -> Backbone:
    config = _read_config(folder / "config.json")
    tokenizer = _read_tokenizer(folder / "tokenizer.json", config)
    return Backbone(backbone, revision, sha256 or _folder_sha256(folder), folder, tokenizer, config)


def check_model_config(path: Path) -> dict[str, Any]:
    """The content of a checkpoint's config.json. Raises UsageError for another model than XLM-R, for sizes that none
    has, and for keys that ask for code or weights from elsewhere."""
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
    raw = check_model_config(path)
    try:
        config = XLMRobertaConfig.from_dict({key: own for key, own in raw.items() if key in _ENCODER_KEYS})
    except Exception as error:  # whatever the library stumbles over in a value of another type
        raise UsageError(f"{path}: no readable configuration of a model ({_one_line(error)})") from error
    if config.hidden_size % config.num_attention_heads:
        found = f"{config.hidden_size} and {config.num_attention_heads}"
        raise UsageError(f"{path}: hidden_size and num_attention_heads: found {found}, accepted a multiple")
    if type(config.pad_token_id) is not int or not 0 <= config.pad_token_id < config.max_position_embeddings - 2:
        raise UsageError(f"{path}: pad_token_id: found {str(config.pad_token_id)[:80]}, accepted that of a piece")
    return config


@lru_cache(maxsize=2)
def _tokenizer(path: Path, _sha256: str, longest: int, _thread: int) -> tuple[PreTrainedTokenizerFast, int]:
    """The tokenizer in a file, and its highest id.

    Read once for all backbones of one content: it takes a second and 280 MB. Two threads cannot use one at a time: each
    has its own.
    """
    try:
        tokenizer = XLMRobertaTokenizerFast(tokenizer_file=str(path), model_max_length=longest)
        return tokenizer, max(tokenizer.get_vocab().values(), default=0)
    except Exception as error:  # `tokenizers` raises bare Exception
        raise UsageError(f"{path}: not a tokenizer: {_one_line(error)}") from error


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


def _weight_files(folder: Path) -> list[Path]:
    """The checkpoint's safetensors: one file, or the index and its shards. Raises UsageError if there are none."""
    if (folder / ADAPTER_OF_PEFT).exists():
        raise UsageError(f"{folder / ADAPTER_OF_PEFT}: found an adapter of peft, accepted a checkpoint's weights")
    if (folder / WEIGHTS).exists():
        return [regular_file(folder / WEIGHTS, folder)]
    index = folder / WEIGHTS_INDEX
    if not index.exists():
        others = sorted(path.name for pattern in ("*.bin", "*.h5", "*.msgpack") for path in folder.glob(pattern))
        found = ", ".join(others) or "no weights"
        raise UsageError(f"{folder}: found {found}; weights are read from {WEIGHTS} only (safetensors, no pickle)")
    names = sorted(set(weight_map(index).values()))
    for name in names:
        if not (folder / name).exists():
            raise UsageError(f"{index}: names {name}, which is missing")
    return [index, *(regular_file(folder / name, folder) for name in names)]


def weight_map(index: Path) -> dict[str, str]:
    """Which file beside the index holds each weight. Raises UsageError for an index that cannot be read, or that names
    files elsewhere."""
    try:
        found = read_json(regular_file(index, index.parent)).get("weight_map")
        if not isinstance(found, dict) or not found:
            refuse(index, "no weight_map", "one that is not empty")
        list(names_in(found.values(), index))
    except StiltsError as error:
        reason = str(error).removeprefix(f"{index}: ")
        raise UsageError(f"{index}: no readable weight_map ({reason})") from error
    return {str(key): str(name) for key, name in found.items()}


def _check_weights(backbone: Backbone) -> None:
    """Raise DataError where the files' headers say other sizes than config.json, before memory is taken for either."""
    config = backbone.config
    hidden, inner = config.hidden_size, config.intermediate_size
    sizes = {
        "embeddings.word_embeddings.weight": (config.vocab_size, hidden),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, hidden),
        "encoder.layer.0.intermediate.dense.weight": (inner, hidden),
        f"encoder.layer.{config.num_hidden_layers - 1}.output.dense.weight": (hidden, inner),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for path in _weight_files(backbone.folder):
        if path.name != WEIGHTS_INDEX:
            shapes |= {name.removeprefix("roberta."): own.shape for name, own in tensor_shapes(path).items()}
    for name, size in sizes.items():
        if name not in shapes:
            raise DataError(f"{backbone.folder}: checkpoint lacks weights of the encoder, such as {name}")
        if shapes[name] != size:
            raise DataError(
                f"{backbone.folder}: weights cannot be read: {name} is {shapes[name]}, its config.json says {size}"
            )


def _folder_sha256(folder: Path) -> str:
    files = [folder / "config.json", folder / "tokenizer.json", *_weight_files(folder)]
    contents = {path.name: remembered_sha256(path) for path in files}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _from_hub(backbone: str, revision: str | None, mirror: Path | None) -> Backbone:
    tried = f"backbone {backbone!r}: no such folder" + ("" if mirror is None else f", nor in the mirror {mirror}")
    at = f" at revision {revision!r}" if revision else ""
    try:
        paths = [_hub_file(backbone, name, revision) for name in ("tokenizer.json", "config.json")]
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UsageError(f"{tried}, nor on the Hub{at} ({type(error).__name__})") from error
    except LocalEntryNotFoundError as error:
        raise UsageError(
            f"{tried}, and the Hub could not be reached; give a folder, a mirror (--hub-mirror), or 'embedded'"
        ) from error
    except EntryNotFoundError as error:
        raise UsageError(f"backbone {backbone!r}: no config.json with tokenizer.json on the Hub{at}") from error
    except OSError as error:
        raise UsageError(f"{tried}, and the Hub{at} says: {_one_line(error)}") from error
    commit = paths[0].parent.name  # the Hub's cache lays files out as snapshots/COMMIT/NAME
    return _from_folder(backbone, paths[0].parent, f"hub:{commit}", commit)


def _hub_file(backbone: str, name: str, revision: str | None) -> Path:
    """The file in the Hub's cache, fetched if need be; a commit that is cached asks nothing of the network.

    Without a connection the cache decides: LocalEntryNotFoundError if it lacks the file. The Hub is asked for the
    commit first, because that call fails at once where a download repeats itself for half a minute.
    """
    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        with suppress(LocalEntryNotFoundError):
            return Path(hf_hub_download(backbone, name, revision=revision, local_files_only=True))
    try:
        commit = model_info(backbone, revision=revision, timeout=HUB_TIMEOUT_SECONDS).sha
    except HfHubHTTPError:
        raise
    except OSError:
        return Path(hf_hub_download(backbone, name, revision=revision, local_files_only=True))
    return Path(hf_hub_download(backbone, name, revision=commit))


def _download_weights(backbone: str, commit: str) -> None:
    """Fetches the weights into the Hub's cache, beside the configuration."""
    place = f"backbone {backbone!r} at {commit}"
    try:
        try:
            _hub_file(backbone, WEIGHTS, commit)
        except EntryNotFoundError:
            index = _hub_file(backbone, WEIGHTS_INDEX, commit)
            for name in sorted(set(weight_map(index).values())):
                _hub_file(backbone, name, commit)
    except LocalEntryNotFoundError as error:
        raise UsageError(f"{place}: {WEIGHTS} is not in the cache, and the Hub could not be reached") from error
    except EntryNotFoundError as error:
        raise UsageError(f"{place}: the Hub has no {WEIGHTS}; weights are read from safetensors only") from error
    except OSError as error:
        raise DataError(f"{place}: weights could not be fetched: {_one_line(error)}") from error


def _check_report(folder: Path, report: dict[str, Any]) -> None:
    """Every weight of the encoder came from the checkpoint, and no weight of an encoder in it was left over."""
    missing = [key for key in report["missing_keys"] if not key.startswith("roberta.pooler.")]
    surplus = [
        key
        for key in report["unexpected_keys"]
        if key.removeprefix("roberta.").startswith(("embeddings.", "encoder.")) and not key.endswith("position_ids")
    ]
    for what, keys in (("lacks", missing), ("has, against its config.json,", surplus)):
        if keys:
            raise DataError(f"{folder}: checkpoint {what} {len(keys)} weights of the encoder, such as {min(keys)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Heads and poolers that a checkpoint has or lacks are expected here; `_check_report` looks at what matters."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
