"""RoBERTa's head for masked language modelling over the pieces that a text collection has.

A head over XLM-R's 250,002 pieces costs more than the encoder; one over the pieces of the texts (`candidates`) asks the
same question of fewer answers. Liu et al. 2019, https://arxiv.org/abs/1907.11692; `XLMRobertaLMHead` in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from adapter_stilts.errors import DataError
from adapter_stilts.model.backbone import Backbone, has_masked_lm_head
from adapter_stilts.model.backbone_files import weight_places
from adapter_stilts.model.protocols import Model

# Names of the head's weights, and where a checkpoint has them. Saved with an untied copy, the bias is the decoder's.
CHECKPOINT_NAMES: dict[str, tuple[str, ...]] = {
    "dense.weight": ("lm_head.dense.weight",),
    "dense.bias": ("lm_head.dense.bias",),
    "layer_norm.weight": ("lm_head.layer_norm.weight",),
    "layer_norm.bias": ("lm_head.layer_norm.bias",),
    "bias": ("lm_head.bias", "lm_head.decoder.bias"),
}


class MaskedLMHead(nn.Module):
    """Dense, gelu, layer norm, then the product with the pieces' embeddings, plus a bias for each piece.

    `candidates` (C,) sorted piece ids; `decoder` (C, H) their embeddings as they were when the head was made, frozen
    and not saved: the backbone has them, and the head stays what it was while the encoder trains. `bias` has the whole
    vocabulary; that of other pieces never changes.
    """

    candidates: Tensor
    decoder: Tensor

    def __init__(self, candidates: Tensor, decoder: Tensor, vocabulary: int, layer_norm_eps: float) -> None:
        super().__init__()
        hidden = decoder.shape[1]
        # Nothing is drawn, so that a run's random state is the same with and without the head. The identity puts no
        # random rotation between states and embeddings: on the embedded backbone, over 16,495 pieces, it starts at 10.1
        # nats, a random matrix at 10.9; after 60 steps they are alike.
        self.dense = nn.utils.skip_init(nn.Linear, hidden, hidden, device=decoder.device)
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)
        self.layer_norm = nn.LayerNorm(hidden, eps=layer_norm_eps, device=decoder.device)
        self.bias = nn.Parameter(torch.zeros(vocabulary, device=decoder.device))
        self.register_buffer("candidates", candidates, persistent=False)
        self.register_buffer("decoder", decoder, persistent=False)

    @classmethod
    def build(cls, model: Model, candidates: np.ndarray, weights: Mapping[str, Tensor] | None) -> MaskedLMHead:
        """The head of `weights` (as `pretrained_head` or `head_weights` give them), or a fresh one where they are None.

        `model` is an `adapters` XLM-R whose word embedding is whole, and as it was when `weights` were trained.
        Raises DataError for weights of another backbone.
        """
        words = model.roberta.embeddings.word_embeddings.weight.detach()
        index = torch.from_numpy(candidates.astype(np.int64)).to(words.device)
        head = cls(index, words[index], model.config.vocab_size, model.config.layer_norm_eps)
        try:
            head.load_state_dict(head.state_dict() if weights is None else dict(weights))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise DataError(f"masked LM head: found weights that do not fit the backbone: {reason}") from None
        return head

    def forward(self, states: Tensor) -> Tensor:
        """Logits (P, C) of the candidates for states (P, H) of masked pieces."""
        transformed = self.layer_norm(gelu(self.dense(states)))
        return linear(transformed, self.decoder, self.bias.index_select(0, self.candidates))

    def get_output_embeddings(self) -> None:
        """Nothing for `adapters` to tie: the decoder is a copy that stays as it is."""

    def head_weights(self) -> dict[str, Tensor]:
        """What `build` needs to make the head again over any candidates, on the CPU: dense and layer norm with weight
        and bias, and `bias` (vocabulary,)."""
        return {name: weight.detach().cpu().clone() for name, weight in self.state_dict().items()}


def pretrained_head(backbone: Backbone) -> dict[str, Tensor] | None:
    """The checkpoint's masked LM head by the names of `MaskedLMHead`, float32; None where `has_masked_lm_head` says no.

    Raises DataError for a head that lacks a part, and for files that cannot be read.
    """
    if not has_masked_lm_head(backbone):
        return None
    path_of, weights = weight_places(backbone.folder), {}
    for parameter, names in CHECKPOINT_NAMES.items():
        name = next((name for name in names if name in path_of), None)
        if name is None:
            raise DataError(f"{backbone.folder}: found a masked LM head without {names[0]}, accepted a whole one")
        weights[parameter] = _read(path_of[name], name)
    return weights


def _read(path: Path, name: str) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name).float()
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: {name} cannot be read: {' '.join(str(error).split())[:300]}") from None
