"""A tiny random XLM-R checkpoint, for tests that need a backbone but not its knowledge."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizerFast

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
WORDS = ["the", "of", "and", "to", "in", "a", "is", "was", "for", "on", "that", "with", "he", "it", "this", "are", "be"]
CHARACTERS = (
    "".join(map(chr, range(33, 127)))
    + "".join(map(chr, range(0x430, 0x450)))  # Cyrillic
    + "".join(map(chr, [*range(0xE01, 0xE3B), *range(0xE40, 0xE4D)]))  # Thai
    + "äöüéèñçß"
    + "αβγδεικλμνοπρσςτυω"
    + "ابتدرسعفقلمنهوي"
    + "कखगनमरसलहाीे्"
    + "的一是不了人我在有他这中大来上国你好世界東京日本語。、，"
    + "のはをにがとでしたる"
)


def tiny_backbone_folder(path: Path, layers: int = 2, hidden: int = 32, heads: int = 4, vocabulary: int = 500) -> Path:
    """Saves a checkpoint to the folder `path`: the same weights for the same sizes; no pooler; 512 positions."""
    pieces = _pieces(vocabulary)
    _tokenizer(pieces).save_pretrained(path)
    config = XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        initializer_range=0.1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(path)
    return path


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Change the weights of a checkpoint with one file of them."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _pieces(vocabulary: int) -> list[tuple[str, float]]:
    """XLM-R's order: special pieces, pieces by falling log probability, `<mask>` last."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    endings = [a + b for a in "aeioulnrst" for b in letters]
    ordered = ["▁", *(f"▁{word}" for word in WORDS), *CHARACTERS, *endings]
    unique = list(dict.fromkeys(ordered))[: vocabulary - len(SPECIAL) - 1]
    if len(unique) != vocabulary - len(SPECIAL) - 1 or not set(CHARACTERS) <= set(unique):
        raise ValueError(f"vocabulary must hold all {len(CHARACTERS)} characters and at most all pieces")
    scored = [(piece, -4.0 - 0.01 * rank) for rank, piece in enumerate(unique)]
    return [*((piece, 0.0) for piece in SPECIAL), *scored, ("<mask>", 0.0)]


def _tokenizer(pieces: list[tuple[str, float]]) -> XLMRobertaTokenizerFast:
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return XLMRobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=512)
