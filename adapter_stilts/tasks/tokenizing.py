"""Pieces of users' texts, in which `<s>`, `</s>`, `<pad>`, `<unk>` and `<mask>` are characters like others.

A tokenizer takes them for its own control pieces: its added tokens match them in the text, and so does its vocabulary,
which holds them too (a full-width `＜s＞` is normalised to one). Control pieces are for the encoding to add: a text in
which one turns up is tokenised again by a copy of the tokenizer that cannot match them. The ids are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache

import tokenizers

from adapter_stilts.tasks.tokenizer import Tokenizer

# With this in front, the name of a control piece matches no text: noncharacters, and a blank, which no piece holds.
_HIDDEN = "\ufdd5\ufdd6 "


def tokenize_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    """The pieces of each text, without control pieces around them."""
    encodings = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    for text, ids in zip(texts, encodings.input_ids, strict=True):
        if _holds_control(tokenizer, ids, [text]):
            ids = _plain(tokenizer).encode(text, add_special_tokens=False).ids
        yield ids


def tokenize_words(tokenizer: Tokenizer, sentences: Sequence[list[str]]) -> Iterator[tuple[list[int], list[int]]]:
    """The pieces of each sentence, and the number of the word that each belongs to."""
    encodings = tokenizer(list(sentences), is_split_into_words=True, add_special_tokens=False)
    for index, words in enumerate(sentences):
        ids, word_ids = encodings.input_ids[index], encodings.word_ids(index)
        if _holds_control(tokenizer, ids, words):
            plain = _plain(tokenizer).encode(words, is_pretokenized=True, add_special_tokens=False)
            ids, word_ids = plain.ids, plain.word_ids
        yield ids, word_ids


def tokenize_examples(
    tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, longest: int
) -> Iterator[list[int]]:
    """The pieces of each text or pair of texts with control pieces around them, `longest` at most: the longer text is
    cut where both are too long."""
    encodings = tokenizer(
        list(texts), None if pairs is None else list(pairs), truncation="longest_first", max_length=longest
    )
    for index, ids in enumerate(encodings.input_ids):
        parts = [texts[index]] if pairs is None else [texts[index], pairs[index]]
        mask = encodings.encodings[index].special_tokens_mask
        if _holds_control(tokenizer, [id_ for id_, added in zip(ids, mask, strict=True) if not added], parts):
            plain = _plain(tokenizer)
            plain.enable_truncation(longest, strategy="longest_first")
            ids = plain.encode(*parts).ids
            plain.no_truncation()
        yield ids


def _holds_control(tokenizer: Tokenizer, ids: Sequence[int], texts: Sequence[str]) -> bool:
    """Whether control pieces stand in the ids of texts, or would had nothing been cut off. `<unk>` alone is one where
    the text says so: else it is a character that the tokenizer does not know."""
    names = _controls(tokenizer)
    held = [id_ for id_ in names if id_ in ids]
    if held == [tokenizer.unk_token_id]:
        normalizer = tokenizer.backend_tokenizer.normalizer
        normalised = texts if normalizer is None else map(normalizer.normalize_str, texts)
        return any(tokenizer.unk_token in text for text in normalised)
    return bool(held) or any(name in text for text in texts for name in names.values())


@lru_cache(maxsize=4)
def _controls(tokenizer: Tokenizer) -> dict[int, str]:
    return dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


@lru_cache(maxsize=2)
def _plain(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """A copy of the tokenizer, of the same ids, whose control pieces have names that no text matches."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    hidden = {name: _HIDDEN + name for name in _controls(tokenizer).values()}
    for token in content["added_tokens"]:
        token["content"] = hidden.get(token["content"], token["content"])
        token["lstrip"] = token["rstrip"] = False
    model = content["model"]
    if isinstance(model.get("vocab"), list):
        model["vocab"] = [[hidden.get(piece, piece), score] for piece, score in model["vocab"]]
    elif isinstance(model.get("vocab"), dict):
        model["vocab"] = {hidden.get(piece, piece): id_ for piece, id_ in model["vocab"].items()}
        if model.get("unk_token") in hidden:
            model["unk_token"] = hidden[model["unk_token"]]
    plain = tokenizers.Tokenizer.from_str(json.dumps(content))
    plain.no_truncation()
    plain.no_padding()
    return plain


@lru_cache(maxsize=2)
def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """Hash of a fast tokenizer: vocabulary, normaliser and all, but not the truncation and padding of its last call."""
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    text = backend.to_str()
    if truncation is not None:
        backend.enable_truncation(**truncation)
    if padding is not None:
        backend.enable_padding(**padding)
    return hashlib.sha256(text.encode()).hexdigest()
