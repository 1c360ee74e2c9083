"""A backbone with XLM-R Large's shapes and random weights: speed does not depend on what a model knows."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import torch
from transformers import XLMRobertaConfig, XLMRobertaModel

from adapter_stilts.files import atomic_folder
from adapter_stilts.model.embedded import build_embedded
from adapter_stilts.paths import cache_dir

RANDOM_LARGE = "random-large"
# https://huggingface.co/FacebookAI/xlm-roberta-large/blob/main/config.json
LARGE = {
    "vocab_size": 250_002,
    "hidden_size": 1_024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4_096,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def random_large() -> Path:
    """Folder of the checkpoint, built in the cache on the first call: about 2.2 GB, with the embedded backbone's
    tokenizer (XLM-R's own pieces)."""
    target = cache_dir() / f"{RANDOM_LARGE}-1"
    if not target.is_dir():
        with suppress(FileExistsError), atomic_folder(target) as folder:  # another process may have been faster
            write_random(folder, LARGE, build_embedded())
    return target


def write_random(folder: Path, sizes: dict[str, int | float], tokenizer: Path) -> None:
    """Save a random XLM-R of the given sizes into a folder, always the same one, with a tokenizer's files."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        XLMRobertaModel(XLMRobertaConfig(**sizes), add_pooling_layer=False).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
