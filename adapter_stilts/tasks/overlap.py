"""What an intermediate trained on, by content: signatures of its texts, to refuse targets whose test texts it saw."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.files import atomic_file, open_to_readers
from adapter_stilts.paths import cache_dir, sha256_file
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.table_cache import cached_table, write_table
from adapter_stilts.tasks.tokenizer import Tokenizer
from adapter_stilts.tasks.tokenizing import tokenizer_hash
from adapter_stilts.trust import regular_file

# Shorter texts say nothing: greetings, by-lines and headings repeat by chance. 30 letters, spaces not counted, are six
# or seven English words.
MINIMUM_CHARACTERS = 30
# A wide character (Chinese, Japanese, Korean) is a syllable or a word, and says about as much as three letters do.
_WIDE_CHARACTERS = 3
# Measured in English on the 1,000 test sentences each of udpos and wikiann (570 and 805 distinct long texts). The train
# splits of ud_deprel, chunking, pmb_ccg, pmb_semtag and snli_devtest, and that of one target with the other's test: no
# text shared. A target's own train split: udpos 1 (0.2%), wikiann 21 (2.6%). Another draw of 1,000 from the 2,077 test
# sentences of UD English-EWT, release 2.17, with udpos, which is UD 2.5: 263 (46%; two such draws share 48%).
LEAK_SHARE = 0.05
# Of a task's own training texts in its development and test data: said above it, not refused (wikiann is made so).
OWN_LEAK_SHARE = 0.01
# Raise it when the same texts get other signatures.
_SIGNATURES_VERSION = 1
# Not a letter, so no piece's text holds it: it can stand for the border of two texts.
_BORDER = "▁"
_TENSOR = "signatures"


def text_signatures(split: EncodedSplit, examples: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Sorted distinct 64-bit signatures (uint64, BLAKE2b) of the texts of the given examples.

    A text is what stands between special tokens: a premise and a hypothesis are two, the windows of a long sentence
    one. Letters and numbers alone count: spaces, the segmentation into words, case, punctuation, and characters
    unknown to the tokenizer make no difference. Texts under MINIMUM_CHARACTERS are left out. The tokenizer is the one
    that encoded the split. What its encoding cut off (text pairs over 512 pieces) is not seen.
    """
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in _texts(split, examples, tokenizer))
    return np.unique(np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64))


def remembered_signatures(split: EncodedSplit, tokenizer: Tokenizer) -> np.ndarray:
    """`text_signatures` of all examples of a split, computed once for the same pieces; kept in the cache. A file there
    that is damaged is made anew."""
    digest = hashlib.blake2b(f"{_SIGNATURES_VERSION} {MINIMUM_CHARACTERS} {tokenizer_hash(tokenizer)}".encode())
    for array in (split.ids, split.id_offsets, split.example, split.text_starts):
        digest.update(array.tobytes())
    path = cache_dir() / "signatures" / f"{digest.hexdigest()[:32]}.arrow"
    table = cached_table(path)
    if table is None:
        signatures = text_signatures(split, np.arange(split.examples), tokenizer)
        table = write_table(path, pa.table({_TENSOR: signatures}))
    return table.column(_TENSOR).to_numpy()


def shared_texts(trained_on: np.ndarray, test: np.ndarray) -> int:
    """How many of the test's signatures occur in those trained on (both as `text_signatures` gives them)."""
    return len(np.intersect1d(trained_on, test, assume_unique=True))


def leaking_texts(trained_on: np.ndarray, test: np.ndarray, share: float) -> int:
    """How many texts are shared, where that is more than a share of the smaller side; else 0. The smaller side is what
    was trained on, where that is less than the test split: a hundred test sentences are a leak, however many others
    the test split has."""
    shared = shared_texts(trained_on, test)
    return shared if shared > share * min(len(trained_on), len(test)) else 0


def refuse_overlap(
    name: str, trained_on: np.ndarray, target: str, test_split: EncodedSplit, tokenizer: Tokenizer
) -> None:
    """Raise UsageError where an intermediate trained on more than LEAK_SHARE of a target's distinct test texts
    (`leaking_texts`). name: what the line begins with, such as `--over RUN`; trained_on: signatures of what the
    intermediate trained on; target: the name of the task of `test_split`.
    """
    test = remembered_signatures(test_split, tokenizer)
    shared = leaking_texts(trained_on, test, LEAK_SHARE)
    if shared:
        test_data = f"{target} ({test_split.language}, {test_split.source}; by content)"
        raise UsageError(
            f"{name}: trained on {shared:,} of the {len(test):,} test sentences of {test_data}, "
            "accepted an intermediate that never saw them"
        )


def write_signatures(path: Path, signatures: np.ndarray) -> None:
    """Write what `text_signatures` gave as safetensors, whole or not at all."""
    with atomic_file(path) as beside:
        save_file({_TENSOR: signatures}, beside)
        open_to_readers(beside)


def read_signatures(path: Path, sha256: str | None = None) -> np.ndarray:
    """The signatures of a file; `sha256` is what its run's record says of it (None: nothing). Raises StiltsError,
    naming the file, where it is missing, damaged or something else."""
    accepted = f"accepted a safetensors file with '{_TENSOR}', distinct uint64 in rising order"
    try:
        regular_file(path)
    except StiltsError as error:
        raise StiltsError(f"{error}, {accepted}") from None
    if sha256 is not None and sha256_file(path) != sha256:
        raise StiltsError(f"{path}: altered since it was written (its SHA-256 differs from that in record.json)")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StiltsError(f"{path}: cannot be read ({reason}), {accepted}") from error
    signatures = tensors.get(_TENSOR)
    if signatures is None:
        raise StiltsError(f"{path}: found tensors {', '.join(sorted(tensors)) or 'none'}, {accepted}")
    if signatures.dtype != np.uint64 or signatures.ndim != 1:
        raise StiltsError(f"{path}: found {signatures.dtype} of {signatures.ndim} dimensions, {accepted}")
    if np.any(signatures[1:] <= signatures[:-1]):
        raise StiltsError(f"{path}: found signatures out of order, {accepted}")
    return signatures


def _texts(split: EncodedSplit, examples: np.ndarray, tokenizer: Tokenizer) -> Iterator[str]:
    """The normalised texts of the examples that are long enough."""
    windows: dict[int, list[str]] = {}
    for example, texts in _texts_of_sequences(split, examples, tokenizer):
        if len(texts) == 1:
            windows.setdefault(example, []).append(texts[0])
        else:
            yield from filter(_long_enough, filter(None, texts))
    yield from filter(_long_enough, map("".join, windows.values()))


def _texts_of_sequences(
    split: EncodedSplit, examples: np.ndarray, tokenizer: Tokenizer
) -> Iterator[tuple[int, list[str]]]:
    """Example and texts of each sequence, in order; an empty text too is one of a pair."""
    string_of = _piece_strings(split.ids, tokenizer)
    starts = set(split.text_starts.tolist())
    for sequence in split.sequences_of(examples):
        first = int(split.id_offsets[sequence])
        ids = split.ids[first : split.id_offsets[sequence + 1]].tolist()
        strings = [string_of[id_] for id_ in ids]
        if starts:
            strings = [_BORDER + text if first + index in starts else text for index, text in enumerate(strings)]
        # `<s> A </s>` has its one text between two borders, `<s> A </s></s> B </s>` its two among five.
        texts = "".join(strings).strip(_BORDER).split(_BORDER)
        pair = strings.count(_BORDER) > 2 or len(texts) > 1
        yield int(split.example[sequence]), [text for text in texts if text] + ([""] if pair and len(texts) < 2 else [])


def _piece_strings(ids: np.ndarray, tokenizer: Tokenizer) -> dict[int, str]:
    """What each piece adds to a text; a border for the special tokens around texts.

    <unk> adds nothing: how many of them unknown characters become depends on the segmentation into words.
    """
    occurring = np.unique(ids).tolist()
    pieces = tokenizer.convert_ids_to_tokens(occurring)
    strings = {id_: _letters(piece) for id_, piece in zip(occurring, pieces, strict=True)}
    borders = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return strings | dict.fromkeys(borders, _BORDER) | {tokenizer.unk_token_id: ""}


def _letters(piece: str) -> str:
    """Case-folded letters, combining marks and numbers: corpora write quotes, brackets and joints in their own ways."""
    return "".join(character for character in piece.casefold() if unicodedata.category(character)[0] in "LMN")


def _long_enough(text: str) -> bool:
    if len(text) >= MINIMUM_CHARACTERS:
        return True
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + (_WIDE_CHARACTERS - 1) * wide >= MINIMUM_CHARACTERS
