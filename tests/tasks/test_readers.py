"""What single readers take and refuse: comments and words, quotes, other line ends, foreign columns, cards."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.dataset_card import readme_configs
from adapter_stilts.tasks.readers import read_conll, read_conllu, read_jsonl, read_parquet, read_tsv


def file_of(folder: Path, content: str | bytes, name: str = "x.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def complaint(read: Any, path: Path, columns: list[Any]) -> str:
    with pytest.raises(DataError) as error:
        read(path, columns)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(str(path))


# --- columns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "columns", "tokens"),
    [
        # Comments: other columns than the words, a number of columns that words have not, no tag.
        ("# id 2c8f domain=en\nAda _ _ B-PER\n\n# id 2\nBo _ _ O\n", [0, "last"], [["Ada"], ["Bo"]]),
        ("# doc1\nAda B-PER\nis O\n", [0, 1], [["Ada", "is"]]),
        ("# newdoc\n# text = In Rome\n1\tIn\tO\t-\n2\tRome\tB-LOC\t-\n", [1, 2], [["In", "Rome"]]),
        ("#\thttp://x [2009-10-17]\n1\tAda\tB-PER\tO\n", [1, 2], [["Ada"]]),
        ("#\ta\tb\tO\n1\tAda\tB-PER\tO\n2\tis\tO\tO\n", [1, 2], [["Ada", "is"]]),
        # Words: `#` with a label of the file's others, with a tag, a sign for a label; `#word`; not above a sentence.
        ("# # B-NP\n200 CD I-NP\n\nthe DT B-NP\n", [0, "last"], [["#", "200"], ["the"]]),
        ("# B-LOC\nAda B-PER\nis O\n", [0, 1], [["#", "Ada", "is"]]),
        ("# #\n200 CD\n", [0, 1], [["#", "200"]]),
        ("# SYM\n200 NUM\n", [0, 1], [["#", "200"]]),
        ("#tag\tO\nAda\tB-PER\n", [0, 1], [["#tag", "Ada"]]),
        ("Ada B-PER\n# O\n#\tO\n", [0, 1], [["Ada", "#", "#"]]),
        ("# X\n# Y\n", [0, 1], [["#", "#"]]),
        # A line of blanks or of a tab ends a sentence.
        ("a X\n \t\nb Y\n", [0, 1], [["a"], ["b"]]),
    ],
)
def test_comments_and_words(tmp_path: Path, content: str, columns: list[Any], tokens: list[list[str]]) -> None:
    assert read_conll(file_of(tmp_path, content), columns).columns[columns[0]] == tokens


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# doc1\na NOUN\n", ":1: found '# doc1', a comment or a word; accepted "),
        ("a _ O\nb _ B-X\n\n# O\nc _ O\n", ":4: found '# O', a comment or a word; accepted "),
        ("a O\n# a comment in a sentence\n", ":2: found 6 columns, accepted 2 as in the lines before"),
        ("#doc1\na O\n", ":2: found 2 columns, accepted 1 as in the lines before"),
        ("a O\n\nb\n", ":3: found 1 columns, accepted 2 as in the lines before"),
    ],
)
def test_lines_that_are_neither(tmp_path: Path, content: str, message: str) -> None:
    assert complaint(read_conll, file_of(tmp_path, content), [0, "last"])[: len(message)] == message


def test_a_conllu_line_of_blanks_is_a_blank_line(tmp_path: Path) -> None:
    word = "1\t{}\t_\tX\t_\t_\t0\troot\t_\t_\n"
    path = file_of(tmp_path, word.format("a") + "\t\n" + word.format("b") + "  \n")
    rows = read_conllu(path, ["form"])
    assert (rows.columns["form"], rows.lines) == ([["a"], ["b"]], [[1], [3]])


# --- tables and JSON ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('t\ty\n"a ""b"" c"\tx\n', ':2: found the quoted field "a ""b"" c", accepted fields without quotes'),
        ('t\ty\n"a"\tx\n"b"\ty\n', ':2: found the quoted field "a", accepted '),
        ('"t"\t"y"\na\tx\n', ':1: found the quoted field "t", accepted '),
        ("t\ty\ty\na\tx\tz\n", ":1: found the column 'y' twice, accepted each wanted column once"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, content: str, message: str) -> None:
    assert complaint(read_tsv, file_of(tmp_path, content), ["t", "y"])[: len(message)] == message


def test_quotes_that_are_text(tmp_path: Path) -> None:
    texts = ['"so"', 'he said "so"', '"a" and "b"', '""so""', '"', "plain"]
    content = "t\tz\tz\n" + "".join(f"{text}\t\t\n" for text in texts)
    assert read_tsv(file_of(tmp_path, content), ["t"]).columns["t"] == texts


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"t": "a", "t": "b"}', ":2: found the key 't' twice, accepted once"),
        ('{"t": "a", "z": {"k": 1, "k": 2}}', ":2: found the key 'k' twice, accepted once"),
        ('{"t": ' + "9" * 5000 + "}", ":2: found broken JSON (Exceeds the limit (4300 digits)"),
        ('{"t": ' + "[" * 100_000, ":2: found broken JSON (maximum recursion depth exceeded"),
        ('{"t": NaN}', ":2: t: found nan, accepted text"),
        ('{"t": -Infinity}', ":2: t: found -inf, accepted text"),
        ('{"t": {"a": "b"}}', ":2: t: found {'a': 'b'}, accepted text"),
        ('{"t": [["a"]]}', ":2: t: found ['a'], accepted text"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = file_of(tmp_path, f'{{"t": "x"}}\n{line}\n')
    assert complaint(read_jsonl, path, ["t"])[: len(message)] == message


def test_values_that_are_not_wanted_decide_nothing(tmp_path: Path) -> None:
    path = file_of(tmp_path, '{"t": 1, "score": NaN, "z": [[null]]}\n{"t": true}\n{"t": 0.5}\n')
    assert read_jsonl(path, ["t"]).columns["t"] == ["1", "True", "0.5"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    tsv = read_tsv(file_of(tmp_path, end.join(["t\ty", "a\tx", "b\tz", ""])), ["t", "y"])
    assert (tsv.columns, tsv.lines) == ({"t": ["a", "b"], "y": ["x", "z"]}, [2, 3])
    conll = read_conll(file_of(tmp_path, end.join(["a X", "", "b Y"])), [0, 1])
    assert (conll.columns, conll.lines) == ({0: [["a"], ["b"]], 1: [["X"], ["Y"]]}, [[1], [3]])


# --- Parquet ------------------------------------------------------------------------------------------------------


def parquet(folder: Path, columns: dict[str, Any], features: Any = None) -> Path:
    table = pa.table(columns)
    if features is not None:
        content = features if isinstance(features, bytes) else json.dumps({"info": {"features": features}}).encode()
        table = table.replace_schema_metadata({"huggingface": content})
    pq.write_table(table, folder / "x.parquet")
    return folder / "x.parquet"


OTHERS = {
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "fixed": pa.array([b"0123456789abcdef"], pa.binary(16)),
    "struct": pa.array([{"a": None}]),
    "time": pa.array([2**62], pa.timestamp("ns")),
    "decimal": pa.array([None], pa.decimal128(5, 2)),
}


def test_other_columns_may_be_of_any_type(tmp_path: Path) -> None:
    path = parquet(tmp_path, {**OTHERS, "t": ["a"]})
    assert read_parquet(path, ["t"]).columns == {"t": ["a"]}
    for name in OTHERS:
        assert complaint(read_parquet, path, ["t", name])[:30].startswith((": row 1: ", ": found a damaged file ("))


@pytest.mark.parametrize("features", [b"{broken", b"[]", b"[" * 100_000, {"t": {"_type": "Evil"}}, {"t": 7}])
def test_metadata_matter_where_numbers_may_be_labels(tmp_path: Path, features: Any) -> None:
    assert read_parquet(parquet(tmp_path, {"t": ["a"]}, features), ["t"]).columns == {"t": ["a"]}
    path = parquet(tmp_path, {"t": [1]}, features)
    if features == {"t": {"_type": "Evil"}}:
        assert read_parquet(path, ["t"]).columns == {"t": ["1"]}
    else:
        assert complaint(read_parquet, path, ["t"]).startswith(": t: found broken `huggingface` metadata beside")


@pytest.mark.parametrize(
    ("feature", "values", "decoded"),
    [
        ({"_type": "ClassLabel", "names": ["n", "p"]}, [1, 0, 2], ["p", "n", "2"]),
        ({"_type": "ClassLabel", "num_classes": 2}, [1, 0], ["1", "0"]),
        ({"_type": "List", "feature": {"_type": "ClassLabel", "names": ["n", "p"]}}, [[1], [0]], [["p"], ["n"]]),
        ([{"_type": "ClassLabel", "names": ["n", "p"]}], [[1], [0]], [["p"], ["n"]]),
        ({"_type": "Value", "dtype": "int64"}, [1, 0], ["1", "0"]),
    ],
)
def test_class_labels(tmp_path: Path, feature: Any, values: list[Any], decoded: list[Any]) -> None:
    assert read_parquet(parquet(tmp_path, {"y": values}, {"y": feature}), ["y"]).columns["y"] == decoded


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["t", "t", "y"])
    pq.write_table(table, tmp_path / "x.parquet")
    expected = ": found the column 't' twice, accepted each wanted column once"
    assert complaint(read_parquet, tmp_path / "x.parquet", ["t"]) == expected
    assert read_parquet(tmp_path / "x.parquet", ["y"]).columns == {"y": ["c"]}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["a", None]]),
        pa.array([["a"], None]),
        pa.array(["a", None]).dictionary_encode(),
        pa.array([1.0, float("nan")]),
        pa.array([b"a"]),
    ],
)
def test_nothing_but_texts_and_numbers(tmp_path: Path, column: pa.Array) -> None:
    assert ", accepted text" in complaint(read_parquet, parquet(tmp_path, {"t": column}), ["t"])


# --- cards --------------------------------------------------------------------------------------------------------


def configs(folder: Path, body: str | bytes) -> dict[str, dict[str, list[str]]]:
    raw = body if isinstance(body, bytes) else f"---\n{body}\n---\n# text\n".encode()
    path = file_of(folder, raw, "README.md")
    readme_configs.cache_clear()
    return readme_configs(path, 0)


def test_a_card_is_read_as_text(tmp_path: Path) -> None:
    body = """\
date: 2020-99-99
number: !!int abc
a: &a [x, x]
b: &b [*a, *a, *a]
configs:
- config_name: no
  data_files: [{split: train, path: no/*}, {split: on, path: [a, b]}]
- config_name: 1.10
  data_files: x.parquet
- config_name: 0x1F
  data_files: {test: t.parquet}
- data_files: [a, b]"""
    assert configs(tmp_path, body) == {
        "no": {"train": ["no/*"], "on": ["a", "b"]},
        "1.10": {"train": ["x.parquet"]},
        "0x1F": {"test": ["t.parquet"]},
        "default": {"train": ["a", "b"]},
    }
    assert configs(tmp_path, "licence: mit") == configs(tmp_path, b"# no metadata\n") == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"---\nx: \xff\n---\n", ": found bytes that are not UTF-8, accepted a readable README"),
        ("configs: 7", ":2: found broken metadata (no list), accepted a list of configs"),
        ("configs:\n- [a]", ":3: found broken metadata (no mapping), accepted a mapping"),
        ("configs:\n- config_name: [a]", ":3: found broken metadata (no text), accepted a name or a pattern"),
        ("configs:\n- data_files: [{split: a}]", ":3: found broken metadata (no split and path), accepted both"),
        ("x: " + "[" * 100_000, ":2: found broken metadata ("),
        ("a: &a [*a]\nconfigs: *a", ":2: found broken metadata (no mapping)"),
        ("- a", ":2: found broken metadata (no mapping)"),
    ],
)
def test_cards_that_are_refused(tmp_path: Path, body: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as error:
        configs(tmp_path, body)
    assert str(error.value).removeprefix(str(tmp_path / "README.md"))[: len(message)] == message
    assert "\n" not in str(error.value)
