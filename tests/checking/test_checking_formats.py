"""Checks of other formats than CoNLL-U, of labels and tags of spans, and of all files of a task."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.training import HEAD

from adapter_stilts.checking.check import check_files
from adapter_stilts.checking.labels import scheme_of
from adapter_stilts.errors import UsageError

IOB2 = "Ada B-PER\nLovelace I-PER\nwrote O\nnotes O\n\nLondon B-LOC\n"


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def findings_of(*paths: Path, **options: Any) -> list[tuple[int, str, str]]:
    """Line, code and message of every finding."""
    return [(finding.line, finding.code, finding.message) for finding in check_files(paths, **options).findings]


# --- formats ------------------------------------------------------------------------------------------------------


def test_columns_of_words_are_known_by_their_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "my.txt", IOB2)
    report = check_files([path])
    assert report.findings == ()
    assert report.summary == "1 file, 2 sentences, 5 words, no findings"
    (file,) = report.files
    described = "conll, tokens 0, labels 1; 4 labels: O 2, B-PER 1, I-PER 1, B-LOC 1; IOB2"
    assert file.description == f"{path}: {described}"
    assert file.as_json() == {
        "file": str(path),
        "sentences": 2,
        "words": 5,
        "unchecked": [],
        "read": "conll, tokens 0, labels 1",
        "scheme": "IOB2",
        "labels": {"O": 2, "B-PER": 1, "I-PER": 1, "B-LOC": 1},
    }


def test_numbered_words_with_an_annotator_last(tmp_path: Path) -> None:
    path = written(tmp_path, "my.iob2", "1\tAda\tB-PER\t-\tjane\n2\twrote\tO\t-\tjane\n\n1\tHi\tO\t-\tjoe\n")
    (file,) = check_files([path]).files
    assert (file.read, file.examples[0].words) == ("conll, tokens 1, labels 2", ("Ada", "wrote"))
    (file,) = check_files([path], columns={"labels": "4"}).files
    assert file.description.endswith("tokens 1, labels 4; 2 labels: jane 2, joe 1")
    with pytest.raises(UsageError, match=r"--columns words: found an unknown role, accepted tokens, labels, text,"):
        check_files([path], columns={"words": "1"})


def test_what_stops_the_reader_is_a_finding(tmp_path: Path) -> None:
    ragged = written(tmp_path, "my.txt", "Ada B-PER\nwrote\nLondon B-LOC\n")
    broken = written(tmp_path, "my.jsonl", '{"text": "a", "label": "x"}\n{"text": \n')
    short = written(tmp_path, "my.tsv", "text\tlabel\na\tx\nb\n")
    uneven = written(tmp_path, "other.jsonl", '{"tokens": ["a"], "tags": ["X", "Y"]}\n')
    findings = findings_of(ragged, broken, short, uneven)
    assert [(line, code) for line, code, _ in findings] == [(2, "read"), (2, "read"), (3, "read"), (1, "read")]
    assert findings[0][2] == "found 1 columns, accepted 2 as in the lines before"
    assert findings[3][2] == "found 2 labels, accepted 1 (one a token)"


def test_tables_by_their_usual_or_given_names(tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2], "words": [["a", "b"], []], "ner_tags": [["O", "_"], []]})
    path = tmp_path / "my.parquet"
    pq.write_table(table, path)
    report = check_files([path])
    assert [str(finding) for finding in report.findings] == [
        f"{path}: row 1: found the label '_', once, accepted a label [label]",
        f"{path}: row 2: found a sentence with nothing in it, accepted one with words [nothing]",
    ]
    assert report.findings[0].as_json()["row"] == 1
    path = written(tmp_path, "my.jsonl", '{"body": "a b", "kind": "x"}\n{"body": "", "kind": "y"}\n')
    with pytest.raises(UsageError, match="found the columns body, kind, accepted with --columns tokens=NAME"):
        check_files([path])
    nothing = (2, "nothing", "found a text with nothing in it, accepted one with words")
    assert findings_of(path, columns={"text": "body", "label": "kind"}) == [nothing]


def test_one_damaged_file_does_not_hide_the_others(tmp_path: Path) -> None:
    damaged, good = tmp_path / "a.parquet", written(tmp_path, "b.txt", IOB2.replace("I-PER", "_"))
    damaged.write_bytes(b"PAR1 and no more")
    broken = tmp_path / "c.txt"
    broken.write_bytes(b"Ada B-PER\nwr\xf6te O\n")
    report = check_files([damaged, good, broken])
    assert [(finding.file, finding.line, finding.code) for finding in report.findings] == [
        (damaged, 1, "read"),
        (good, 2, "label"),
        (broken, 2, "read"),
    ]
    assert report.findings[2].message == "found bytes that are not UTF-8 (invalid start byte), accepted UTF-8"


def test_columns_that_a_format_has_not(tmp_path: Path) -> None:
    words = written(tmp_path, "my.txt", IOB2)
    with pytest.raises(UsageError, match=r"^--columns tokens: found 'word', accepted the number of a column, from 0"):
        check_files([words], columns={"tokens": "word"})
    conllu_file = written(tmp_path, "my.conllu", conllu(("a", "NOUN")))
    with pytest.raises(UsageError, match=r"^--columns labels: found '3', accepted id, form, "):
        check_files([conllu_file], columns={"labels": "3"})


def test_plain_text_is_no_annotated_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found plain text, or a format that is not known, accepted with --format"):
        check_files([written(tmp_path, "my.txt", "She sleeps .\nHe reads a book .\n")])


def test_repetitions_and_leaks_in_every_format(tmp_path: Path) -> None:
    text = "The dog runs home quickly"
    train = written(tmp_path, "en-train.tsv", f"text\tlabel\n{text}\tx\nA cat\ty\n{text}!\tx\n")
    test = written(tmp_path, "en-test.jsonl", json.dumps({"text": text.upper(), "label": "x"}) + "\n")
    assert findings_of(test, train) == [
        (1, "leak", f"found a test text that training data have ({train}:2)"),
        (4, "duplicate", f"found the text of {train}:2, accepted each once"),
    ]


# --- labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["x", "_", "_"], "found the label '_', 2 times, accepted a label"),
        (["x", ""], "found the label '', once, accepted a label"),
        (["0", "-100"], "found the label '-100', once, accepted a label"),
        (["0", "1", "1.0"], "found the label '1.0' beside '1' (line 3), once, accepted one spelling"),
        (["pos", "neg", "Pos"], "found the label 'Pos' beside 'pos' (line 2), once, accepted one spelling"),
        (["x", "y "], "found the label 'y ' with blanks around it, once, accepted none"),
    ],
)
def test_what_can_be_no_label(tmp_path: Path, labels: list[str], message: str) -> None:
    rows = "".join(f"text {number}\t{label}\n" for number, label in enumerate(labels))
    path = written(tmp_path, "my.tsv", f"text\tlabel\n{rows}")
    assert [(code, text) for _, code, text in findings_of(path)] == [("label", message)]


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("O B-X I-X O", "IOB2"),
        ("O I-X I-X O I-Y", "IOB1"),
        ("O I-X B-X O", "IOB1"),
        ("O I-X O B-X", "mixed"),
        ("O B-X I-X E-X S-Y", "BIOES"),
        ("O B-X I-X L-X U-Y", "BILOU"),
        ("O B-X M-X E-X S-Y", "BMES"),
        ("O B-X E-X U-Y", "mixed"),
        ("NOUN VERB X", None),
        ("O A B", None),
    ],
)
def test_schemes(tags: str, scheme: str | None) -> None:
    assert scheme_of([list(enumerate(tags.split(), 1))]) == scheme


def columns(tags: str) -> str:
    return "".join(f"w{number} {tag}\n" for number, tag in enumerate(tags.split()))


def test_tags_of_spans(tmp_path: Path) -> None:
    mixed = written(tmp_path, "mixed.txt", columns("B-PER O I-PER B-LOC I-ORG O B-PER I-PER"))
    assert findings_of(mixed) == [
        (3, "spans", "found I-PER after O, accepted it after B-PER or I-PER"),
        (5, "spans", "found I-ORG after B-LOC, accepted it after B-ORG or I-ORG"),
    ]
    first = written(tmp_path, "first.txt", columns("I-PER I-PER O I-LOC B-LOC O"))
    message = "found tags in IOB1, where spans begin with I- (I-PER after O, 2 times)"
    assert findings_of(first) == [(1, "spans", f"{message}, accepted IOB2, where they begin with B-")]
    several = written(tmp_path, "several.txt", columns("B-PER E-PER O U-LOC"))
    message = "found tags of several schemes (B, E, U)"
    assert findings_of(several) == [(1, "spans", f"{message}, accepted one, such as IOB2 or BIOES")]
    plain = written(tmp_path, "plain.txt", columns("B-PER I-PER O LOC O"))
    message = "found the label 'LOC' among tags of spans, once"
    assert findings_of(plain) == [(4, "label", f"{message}, accepted O, and B- or I- with a type")]


# --- CoNLL-U ------------------------------------------------------------------------------------------------------


def conllu(*words: tuple[str, str], trees: bool = False) -> str:
    rows = []
    for number, (form, tag) in enumerate(words, 1):
        head, relation = (str(number - 1), "dep" if number > 1 else "root") if trees else ("_", "_")
        rows.append(f"{number}\t{form}\t_\t{tag}\t_\t_\t{head}\t{relation}\t_\t_\n")
    return "".join(rows) + "\n"


def test_comments_without_words_are_no_crash(tmp_path: Path) -> None:
    path = written(tmp_path, "my.conllu", conllu(("a", "NOUN"), trees=True) + "# the end\n\n")
    assert findings_of(path) == [(3, "comment", "found no word, accepted one or more after the comments")]


def test_a_treebank_without_its_text(tmp_path: Path) -> None:
    path = written(tmp_path, "my.conllu", conllu(("_", "NOUN"), ("_", "VERB"), ("_", "X")))
    assert findings_of(path) == [(1, "form", "found FORM _ on 3 of 3 words, accepted the words of the text")]
    assert findings_of(written(tmp_path, "my.conllu", conllu(("a", "NOUN"), ("_", "SYM"), ("b", "X")))) == []


def test_test_data_without_upos(tmp_path: Path) -> None:
    train = written(tmp_path, "en-train.conllu", conllu(("a", "NOUN"), ("b", "VERB")))
    test = written(tmp_path, "de-test.conllu", conllu(("c", "_"), ("d", "_")))
    message = "found UPOS _ on all of 2 words, accepted a tag on each"
    assert findings_of(train, test) == [(1, "upos", f"{message} as in {train}")]
    trees = written(tmp_path, "trees.conllu", conllu(("c", "_"), ("d", "_"), trees=True))
    assert findings_of(trees) == [(1, "upos", f"{message} beside HEAD and DEPREL")]
    assert findings_of(test) == []


# --- tasks --------------------------------------------------------------------------------------------------------


def task(folder: Path, data: str, *, kind: str = "tagging", labels: str = "open", metrics: str = "[accuracy]") -> Path:
    fields = {"version": 1, "word_piece": "first_content", "bottleneck": "{}", "full": "{}"}
    head = HEAD.format(name="mine", kind=kind, labels=labels, metrics=metrics, **fields)
    return written(folder, "mine.yaml", head + data)


CONLL = "data:\n  format: conll\n  columns: {tokens: 0, labels: last}\n  languages: "


def test_all_files_of_a_task(tmp_path: Path) -> None:
    train = written(tmp_path, "a.txt", IOB2)
    test = written(tmp_path, "b.txt", IOB2.replace("B-LOC", "B-GPE"))
    yaml = task(tmp_path, f"{CONLL}{{en: {{train: a.txt}}, de: {{test: b.txt}}}}\n")
    report = check_files([yaml])
    assert [(file.path, file.role) for file in report.files] == [(train, "train"), (test, "test")]
    assert [str(finding) for finding in report.findings] == [
        f"{test}:1: found a test sentence that training data have ({train}:1) [leak]",
        f"{test}:6: found the label 'B-GPE', once, accepted those of {train} [unseen]",
    ]
    with pytest.raises(UsageError, match="found --format or --columns with a task's YAML, which says both, accepted"):
        check_files([yaml], columns={"tokens": "1"})


def test_what_stops_the_task_is_a_finding(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", columns("B-PER L-PER O U-LOC"))
    yaml = task(tmp_path, f"{CONLL}{{en: {{train: a.txt}}}}\n", metrics="[span_f1, accuracy]")
    (finding,) = check_files([yaml]).findings
    assert str(finding).startswith(f"{path}:2: found the tag 'L-PER', accepted O, and B-, I-, E- or S- with a type")
    assert findings_of(path) == []


def test_a_task_s_own_labels_rows_and_columns(tmp_path: Path) -> None:
    rows = "lang\tsentence\tgold\nen\tGood\tpos:strong\nde\tSchlecht\tbad\nen\tBad\tneg\nen\tHm\tmeh\n"
    written(tmp_path, "all.tsv", rows)
    data = (
        "label_until: ':'\ndata:\n  format: tsv\n  columns: {text: sentence, label: gold}\n  filter: {lang: [en]}\n"
        "  languages: {en: {train: all.tsv}}\n"
    )
    expected = (5, "label", "found the label 'meh', once, accepted pos, neg")
    assert findings_of(task(tmp_path, data, kind="classification", labels="[pos, neg]")) == [expected]


def test_labels_in_a_column_of_conllu(tmp_path: Path) -> None:
    first, second = conllu(("a", "NOUN"), ("b", "VERB")).splitlines()[:2]
    written(tmp_path, "en.conllu", f"{first[:-1]}NER=O\n{second[:-1]}NER=_\n\n")
    data = "data:\n  format: conllu\n  columns: {tokens: form, labels: misc.NER}\n"
    assert findings_of(task(tmp_path, f"{data}  languages: {{en: {{train: en.conllu}}}}\n")) == [
        (2, "label", "found the label '_', once, accepted a label")
    ]


def test_a_task_on_a_repository(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "own" / "data" / "en"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"text": ["a", ""], "label": ["x", "y"]}), folder / "train-0.parquet")
    data = "data:\n  dataset: own/data\n  columns: {text: text, label: label}\n  languages: {en: en}\n"
    report = check_files([task(tmp_path, data, kind="classification")], mirror=tmp_path / "hub")
    message = "found a text with nothing in it, accepted one with words"
    assert [str(finding) for finding in report.findings] == [f"mine, en, train: row 2: {message} [nothing]"]
    assert [file.read for file in report.files] == ["own/data en train"]


# --- whatever stands in a file ------------------------------------------------------------------------------------

PIECES = (
    *(
        "the",
        "Ada",
        "O",
        "B-PER",
        "_",
        "NOUN",
        "1",
        "1-2",
        "#",
        "# a = b",
        "{}",
        '{"tokens": ["a"]}',
        '{"tokens": "a"}',
    ),
    *(
        '{"text": "a", "label": NaN}',
        "[1]",
        '"',
        "\t",
        " ",
        "\n",
        "\n\n",
        "\r",
        "\r\n",
        "\ufeff",
        "\u2028",
        "\x00",
        "мама",
    ),
    *("-DOCSTART-", "# global.columns = ID FORM\n", "text\tlabel\n", "Ada\tB-PER\n", "wrote O\n", "1\tAda\tO\t-\tj\n"),
    *("1\tthe\t_\tNOUN\t_\t_\t0\troot\t_\t_\n", "2\tdog\t_\tX\t_\t_\t1\tdep\t_\tA=b\n"),
)
SUFFIXES = (".txt", ".conllu", ".conllup", ".iob2", ".jsonl", ".parquet", ".tsv", ".csv", "")


@pytest.mark.parametrize("seed", range(4))
def test_every_file_gives_a_report_or_one_line(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    reports = 0
    for _ in range(150):
        content = "".join(random.choice(PIECES) for _ in range(random.randrange(14))).encode()
        if content and random.random() < 0.1:
            position = random.randrange(len(content))
            content = content[:position] + bytes([random.randrange(256)]) + content[position + 1 :]
        path = tmp_path / f"my{random.choice(SUFFIXES)}"
        path.write_bytes(content)
        try:
            report = check_files([path])
        except UsageError as error:
            messages = [str(error)]
        else:
            reports += 1
            messages = [str(finding) for finding in report.findings]
            assert messages or report.files[0].size, content
        assert all(
            message.startswith(f"{path}:") and ": found " in message and "\n" not in message for message in messages
        ), content
    assert reports > 50
