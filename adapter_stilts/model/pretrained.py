"""Pretrained weights: from a backbone's files to its model, on which adapters and heads are put."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from adapters import XLMRobertaAdapterModel
from torch import nn
from transformers.utils import logging as transformers_logging

from adapter_stilts.backbone_names import portable_name
from adapter_stilts.errors import DataError
from adapter_stilts.model.backbone import Backbone, fetch_weights
from adapter_stilts.model.backbone_files import WEIGHTS_INDEX, one_line, weight_files
from adapter_stilts.model.tensors import check_finite
from adapter_stilts.threads import ONE_AT_A_TIME
from adapter_stilts.trust import tensor_shapes


class FirstTokenPooler(nn.Module):
    """XLM-R's pooler without parameters: (batch, length, hidden) -> (batch, hidden), the state of `<s>`.

    No head here reads the pooled state, and many checkpoints have no pooler: the original would add a dense layer of
    random, never trained weights to the model and to its number of parameters.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states[:, 0]


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
    except Exception as error:  # whatever is wrong with the files
        raise DataError(f"{backbone.folder}: weights cannot be read: {one_line(error)}") from error
    _check_report(backbone.folder, report)
    model.config.name_or_path = name
    check_finite(backbone.folder, model.state_dict())
    model.roberta.pooler = FirstTokenPooler()
    return model.eval()


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
    for path in weight_files(backbone.folder):
        if path.name != WEIGHTS_INDEX:
            shapes |= {name.removeprefix("roberta."): tensor.shape for name, tensor in tensor_shapes(path).items()}
    for name, size in sizes.items():
        if name not in shapes:
            raise DataError(f"{backbone.folder}: checkpoint lacks weights of the encoder, such as {name}")
        if shapes[name] != size:
            raise DataError(
                f"{backbone.folder}: weights cannot be read: {name} is {shapes[name]}, its config.json says {size}"
            )


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


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Heads and poolers that a checkpoint has or lacks are expected here; `_check_report` looks at what matters."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
