"""The files of a backbone: its weights in safetensors, their identity by content, and what is fetched from the Hub."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path

from huggingface_hub import hf_hub_download, model_info
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from adapter_stilts.errors import DataError, StiltsError, UsageError
from adapter_stilts.paths import remembered_sha256
from adapter_stilts.trust import names_in, read_json, refuse, regular_file

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
HUB_TIMEOUT_SECONDS = 10.0
# Beside a checkpoint, `transformers` would follow it to other weights.
ADAPTER_OF_PEFT = "adapter_config.json"


def weight_files(folder: Path) -> list[Path]:
    """The checkpoint's safetensors: one file, or the index and its shards. Raises UsageError if there are none."""
    if (folder / ADAPTER_OF_PEFT).exists():
        raise UsageError(f"{folder / ADAPTER_OF_PEFT}: found an adapter of peft, accepted a checkpoint's weights")
    if (folder / WEIGHTS).exists():
        return [regular_file(folder / WEIGHTS, folder)]
    index = folder / WEIGHTS_INDEX
    if not index.exists():
        others = sorted(path.name for pattern in ("*.bin", "*.h5", "*.msgpack") for path in folder.glob(pattern))
        listed = ", ".join(others) or "no weights"
        raise UsageError(f"{folder}: found {listed}; weights are read from {WEIGHTS} only (safetensors, no pickle)")
    names = sorted(set(weight_map(index).values()))
    for name in names:
        if not (folder / name).exists():
            raise UsageError(f"{index}: names {name}, which is missing")
    return [index, *(regular_file(folder / name, folder) for name in names)]


def weight_map(index: Path) -> dict[str, str]:
    """Which file beside the index holds each weight. Raises UsageError for an index that cannot be read, or that names
    files elsewhere."""
    try:
        file_of_weight = read_json(regular_file(index, index.parent)).get("weight_map")
        if not isinstance(file_of_weight, dict) or not file_of_weight:
            refuse(index, "no weight_map", "one that is not empty")
        list(names_in(file_of_weight.values(), index))
    except StiltsError as error:
        reason = str(error).removeprefix(f"{index}: ")
        raise UsageError(f"{index}: no readable weight_map ({reason})") from error
    return {str(key): str(name) for key, name in file_of_weight.items()}


def weight_places(folder: Path) -> dict[str, Path]:
    """Which file of the checkpoint holds each weight, by name; reads no weight. Raises DataError for files that cannot
    be read."""
    single = folder / WEIGHTS
    try:
        if not single.is_file():
            return {name: folder / file for name, file in weight_map(folder / WEIGHTS_INDEX).items()}
        with safe_open(single, framework="numpy") as file:
            return dict.fromkeys(file.keys(), single)
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise DataError(f"{folder}: found no readable weights ({one_line(error)}), accepted {WEIGHTS}") from None


def folder_sha256(folder: Path) -> str:
    """Identity of a checkpoint by content: a hash of its configuration's, its tokenizer's and its weights' own."""
    files = [folder / CONFIG, folder / TOKENIZER, *weight_files(folder)]
    contents = {path.name: remembered_sha256(path) for path in files}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def hub_file(backbone: str, name: str, revision: str | None) -> Path:
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


def download_weights(backbone: str, commit: str) -> None:
    """Fetches the weights into the Hub's cache, beside the configuration."""
    where = f"backbone {backbone!r} at {commit}"
    try:
        try:
            hub_file(backbone, WEIGHTS, commit)
        except EntryNotFoundError:
            index = hub_file(backbone, WEIGHTS_INDEX, commit)
            for name in sorted(set(weight_map(index).values())):
                hub_file(backbone, name, commit)
    except LocalEntryNotFoundError as error:
        raise UsageError(f"{where}: {WEIGHTS} is not in the cache, and the Hub could not be reached") from error
    except EntryNotFoundError as error:
        raise UsageError(f"{where}: the Hub has no {WEIGHTS}; weights are read from safetensors only") from error
    except OSError as error:
        raise DataError(f"{where}: weights could not be fetched: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """What a library says, in one line that is not too long."""
    return " ".join(str(error).split())[:300]
