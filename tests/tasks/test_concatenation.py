"""One split of many: the arrays by hand, and as the encoding of all rows; what cannot be one."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.training import encoded_split, gold_of, make_workspace, write_conllu, write_task

from adapter_stilts.tasks.encode import EncodedSplit, concatenate, encode_split
from adapter_stilts.tasks.kinds.contract import EncodedSequence


def by_hand(language: str, source: str, revision: str | None, names: tuple[str, ...], sequences: Any) -> EncodedSplit:
    """A split of (example, pieces, labels) a sequence, one unit for each label; two labels are trained."""
    encoded = [
        EncodedSequence(example, [0, *pieces, 2], list(range(1, len(labels) + 1)), list(range(2, len(labels) + 2)))
        for example, pieces, labels in sequences
    ]
    split = encoded_split(encoded, [labels for _, _, labels in sequences])
    return replace(
        split, language=language, source=source, revision=revision, sha256=source, label_names=names, trained=2
    )


def test_concatenation_by_hand() -> None:
    german = by_hand("de", "x de", "r", ("A", "B", "Z", "Y"), [(0, [10, 11], [2, 0]), (1, [12], [3])])
    french = by_hand("fr", "x fr", "r", ("A", "B", "Y", "X"), [(0, [13], [1]), (0, [14, 15], [2, 3]), (1, [16], [0])])
    both = concatenate([german, french])
    assert (both.language, both.split, both.source, both.revision) == ("de+fr", "train", "x de; x fr", "r")
    assert both.sha256 == hashlib.sha256(b"x dex fr").hexdigest()
    assert (both.examples, both.label_names, both.trained) == (4, ("A", "B", "Z", "Y", "X"), 2)
    assert both.example.tolist() == [0, 1, 2, 2, 3]
    assert both.ids.tolist() == [0, 10, 11, 2, 0, 12, 2, 0, 13, 2, 0, 14, 15, 2, 0, 16, 2]
    assert both.id_offsets.tolist() == [0, 4, 7, 10, 14, 17]
    assert both.unit_offsets.tolist() == [0, 2, 3, 4, 6, 7]
    assert (both.starts.tolist(), both.ends.tolist()) == ([1, 2, 1, 1, 1, 2, 1], [2, 3, 2, 2, 2, 3, 2])
    assert gold_of(both, np.arange(4)) == gold_of(german, np.arange(2)) + gold_of(french, np.arange(2))
    assert gold_of(both, [2, 0]) == [["B", "Y", "X"], ["Z", "A"]]


def test_concatenation_of_files_is_the_encoding_of_their_rows(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workspace(tmp_path, monkeypatch)
    english = [[("the", "A"), ("of", "B")], [("dog", "A")] * 600]
    german = [[("und", "B")], [("der", "A"), ("ist", "A")]]
    for name, sentences in (("en", english), ("de", german), ("all", english + german)):
        write_conllu(tmp_path / f"{name}.conllu", sentences)
    languages = "{en: {train: en.conllu}, de: {train: de.conllu}, fr: {train: all.conllu}}"
    task = write_task(tmp_path, languages=languages)
    parts = {code: encode_split(task, code, "train", tokenizer, ("A", "B", "C")) for code in ("en", "de", "fr")}
    joined, whole = concatenate([parts["en"], parts["de"]]), parts["fr"]
    assert len(joined.example) > joined.examples == 4
    for name in ("example", "ids", "id_offsets", "starts", "ends", "unit_offsets"):
        assert getattr(joined, name).tolist() == getattr(whole, name).tolist(), name
    assert list(joined.targets) == list(whole.targets) == ["label"]
    assert joined.targets["label"].tolist() == whole.targets["label"].tolist()


def test_concatenation_of_one_of_many_and_of_strangers() -> None:
    parts = [by_hand(code, f"x {code}", code, ("A", "B"), [(0, [10], [1])]) for code in ("de", "fr", "en", "th")]
    assert concatenate(parts[:1]) is parts[0]
    assert concatenate(parts[:3]).source == "x de; x fr; x en"
    assert concatenate(parts).source == "x de and 3 more"
    assert concatenate(parts).revision is None
    for stranger in (replace(parts[1], label_names=("B", "A")), replace(parts[1], split="test")):
        with pytest.raises(ValueError, match="same trained labels"):
            concatenate([parts[0], stranger])
