"""A user's file gets the labels that evaluation stores for the same sentences, and keeps everything else."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from support.training import ENGLISH, Workspace, draw_sentences, make_workspace, pairs_task, write_conllu, write_task

from adapter_stilts.errors import DataError, StiltsError, UsageError
from adapter_stilts.evaluation import predict
from adapter_stilts.evaluation.predictions import read_predictions
from adapter_stilts.evaluation.scores import read_scores
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.runs.store import EVALUATIONS, Run, keep_of

TAGS = {"A": "NOUN", "B": "VERB", "C": "X"}
LEARNT = "{learning_rate: 1e-2, epochs: 6, batch_examples: 8}"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_workspace(tmp_path_factory.mktemp("predict"), monkeypatch)


def tagging_run(workspace: Workspace, name: str, labels: dict[str, str], column: str) -> Run:
    """A run trained on that CoNLL-U column; its test file ends with a sentence of 1,200 words."""
    folder = workspace.folder / name
    for split, count, seed in (("train", 24, 1), ("dev", 6, 2), ("test", 8, 3)):
        sentences = draw_sentences(ENGLISH, count, seed)
        if split == "test":
            sentences.append(
                [sentences[0][0], *(pair for sentence in draw_sentences(ENGLISH, 400, 4) for pair in sentence)][:1200]
            )
        write_conllu(
            folder / f"en-{split}.conllu",
            [[(word, labels[label]) for word, label in sentence] for sentence in sentences],
        )
        if column == "deprel":
            path = folder / f"en-{split}.conllu"
            rows = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")]
            moved = [[*row[:3], "_", *row[4:6], "7", row[3], *row[8:]] if len(row) == 10 else row for row in rows]
            path.write_text("\n".join("\t".join(row) for row in moved), encoding="utf-8")
    task = write_task(folder, name, labels=f"[{', '.join(labels.values())}]", bottleneck=LEARNT)
    yaml = task.path.read_text(encoding="utf-8").replace("labels: upos", f"labels: {column}")
    task.path.write_text(yaml, encoding="utf-8")
    return workspace.train(str(task.path))


@pytest.fixture(scope="module")
def tagger(workspace: Workspace) -> Run:
    return tagging_run(workspace, "tags", TAGS, "upos")


def predict_file(run: Run, path: Path, **options: Any) -> str:
    return predict.predict_file(run, path, **options).decode()


def stored(run: Run, split: str) -> list[list[str]]:
    """What evaluation stored."""
    evaluate(run, split=split, device="cpu")
    (folder,) = (run.folder / EVALUATIONS).glob(f"{split}-*")
    return [
        list(sentence) for sentence in read_predictions(folder, read_scores(folder, run), "tagging")["en"].predicted
    ]


def columns_of(text: str, column: int) -> list[list[str]]:
    """A column of a CoNLL-U or tab-separated text, by sentence."""
    return [[line.split("\t")[column] for line in block.split("\n")] for block in text.strip("\n").split("\n\n")]


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_same_labels_as_evaluation_for_conllu_and_plain_text(workspace: Workspace, tagger: Run, tmp_path: Path) -> None:
    expected = stored(tagger, "test")
    assert {label for sentence in expected for label in sentence} == set(TAGS.values())  # not one label for everything
    assert [len(sentence) for sentence in expected][-1] == 1200
    source = workspace.folder / "tags" / "en-test.conllu"
    text = source.read_text(encoding="utf-8")
    labelled = predict_file(tagger, source, device="cpu")
    assert columns_of(labelled, 3) == expected
    words = columns_of(text, 1)
    plain = written(tmp_path, "words.txt", "\n \n" + "\n\n".join("  ".join(sentence) for sentence in words))
    assert predict_file(tagger, plain, device="cpu") == "\n".join(
        "".join(f"{word}\t{tag}\n" for word, tag in zip(sentence, tags, strict=True))
        for sentence, tags in zip(words, expected, strict=True)
    )


def test_portions_change_nothing(tagger: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = draw_sentences(ENGLISH, 10, 5)
    path = written(tmp_path, "words.txt", "\n".join(" ".join(word for word, _ in sentence) for sentence in sentences))
    whole = predict_file(tagger, path, device="cpu")
    monkeypatch.setattr(predict, "PORTION", 3)
    assert predict_file(tagger, path, device="cpu") == whole
    assert [line.split("\t")[0] for line in whole.split("\n") if line] == [
        word for sentence in sentences for word, _ in sentence
    ]


def test_conllu_keeps_every_other_byte(tagger: Run, tmp_path: Path) -> None:
    text = (
        "\ufeff# text = the dogrun\r\n1\tthe\tthe\tDET\tDT\tA=1\t3\tdet\t3:det\tSpaceAfter=No\r\n"
        "2-3\tdogrun\t_\t_\t_\t_\t_\t_\t_\t_\r\n2\tdog\t_\t_\t_\t_\t_\t_\t_\t_\r\n"
        "2.1\tof\t_\tADP\t_\t_\t_\t_\t_\t_\r\n3\trun\t_\tX\t_\t_\t0\troot\t_\t_\r\n\r\n\r\n# newpar\r\n"
        "1\tcats\t_\t_\t_\t_\t_\t_\t_\tGloss=x\r\n"
    )
    plain = written(tmp_path, "plain.txt", "the dog run\ncats\n")
    ((the, dog, run), (cats,)) = columns_of(predict_file(tagger, plain, device="cpu"), 1)
    expected = (
        text.removeprefix("\ufeff")
        .replace("the\tthe\tDET", f"the\tthe\t{the}")
        .replace("2\tdog\t_\t_", f"2\tdog\t_\t{dog}")
        .replace("3\trun\t_\tX", f"3\trun\t_\t{run}")
        .replace("1\tcats\t_\t_", f"1\tcats\t_\t{cats}")
    )
    for name in ("own.conllu", "named_otherwise.txt"):
        assert predict_file(tagger, written(tmp_path, name, text), device="cpu") == expected


def test_deprel_goes_to_its_column_and_leaves_the_head(workspace: Workspace) -> None:
    run = tagging_run(workspace, "relations", {"A": "nsubj", "B": "obj", "C": "root"}, "deprel")
    labelled = predict_file(run, workspace.folder / "relations" / "en-test.conllu", device="cpu")
    assert columns_of(labelled, 7) == stored(run, "test")
    assert {head for column in columns_of(labelled, 6) for head in column} == {"7"}
    assert {tag for column in columns_of(labelled, 3) for tag in column} == {"_"}


def test_other_labels_go_to_misc(workspace: Workspace, tmp_path: Path) -> None:
    run = tagging_run(workspace, "others", {"A": "A|1", "B": "B", "C": "O"}, "upos")
    rows = "1\tthe\t_\tDET\t_\t_\t_\t_\t_\tSpaceAfter=No|Label=old|Gloss=x\n2\tdog\t_\t_\t_\t_\t_\t_\t_\tGloss=y\n"
    rows += "3\trun\t_\t_\t_\t_\t_\t_\t_\t_\n"
    plain = written(tmp_path, "plain.txt", "the dog run")
    ((the, dog, ran),) = columns_of(predict_file(run, plain, device="cpu"), 1)
    labelled = predict_file(run, written(tmp_path, "own.conllu", rows), device="cpu")
    shown = {"A|1": "A\\p1", "B": "B", "O": "O"}
    assert columns_of(labelled, 9) == [
        [f"SpaceAfter=No|Label={shown[the]}|Gloss=x", f"Gloss=y|Label={shown[dog]}", f"Label={shown[ran]}"]
    ]
    assert columns_of(labelled, 3) == [["DET", "_", "_"]]


def test_text_pairs(workspace: Workspace, tmp_path: Path) -> None:
    run = workspace.train(pairs_task(workspace.folder / "pairs"))
    rows = (workspace.folder / "pairs" / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
    lines = [row.rsplit("\t", 1)[0] for row in rows]
    labelled = predict_file(run, written(tmp_path, "pairs.tsv", "\n\n".join(lines) + "\n"), device="cpu")
    expected = stored(run, "validation")
    assert labelled == "".join(f"{label}\t{line}\n" for (label,), line in zip(expected, lines, strict=True))
    bad = written(tmp_path, "bad.tsv", f"{lines[0]}\n\nno pair\n")
    with pytest.raises(DataError) as error:
        predict_file(run, bad, device="cpu")
    assert (
        str(error.value)
        == f"{bad}:3: found 1 columns, accepted 2 (text<TAB>text_pair), or --format tsv with a header line"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.conllu", b"1\tthe\t_\t_\t_\t_\t_\t_\t_\t_\n2\tdog\t_\n", ":2: found 3 columns, accepted 10"),
        (
            "own.conllu",
            b"1\tthe\t_\t_\t_\t_\t_\t_\t_\t_\n3\tdog\t_\t_\t_\t_\t_\t_\t_\t_\n",
            ":2: found the word number '3'",
        ),
        ("own.conllu", b"# only a comment\n\n", ": found nothing to label, accepted one or more sentences"),
        ("own.txt", b" \n\n", ": found nothing to label, accepted one or more sentences"),
        ("own.txt", b"", ": found nothing to label, accepted one or more sentences"),
        ("own.txt", b"the dog\nthe caf\xe9\n", ":2: found bytes that are not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(tagger: Run, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        predict_file(tagger, path, device="cpu")
    assert str(error.value).startswith(f"{path}{message}")
    assert "\n" not in str(error.value)


def test_no_file_and_no_weights(workspace: Workspace, tagger: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        predict_file(tagger, tmp_path / "none.txt", device="cpu")
    assert str(error.value) == f"{tmp_path / 'none.txt'}: found no such file or directory, accepted a readable file"
    run = workspace.train(str(workspace.folder / "tags" / "tags.yaml"), seed=1, settings={"epochs": "1"})
    keep_of(run, "scores")
    with pytest.raises(StiltsError, match="weights of this run were not kept"):
        predict_file(run, written(tmp_path, "own.txt", "the dog"), device="cpu")


# --- formats ------------------------------------------------------------------------------------------------------

SENTENCES = [["the", "dog"], ["cats", "run", "!"]]
COLUMNS = "the{0}DT{0}O\ndog{0}NN{0}B-X\n\n-DOCSTART-{0}-{0}O\n\ncats{0}NNS{0}O\nrun{0}VB{0}O\n!{0}.{0}O\n"


@pytest.fixture(scope="module")
def tags(tagger: Run, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The labels of SENTENCES, word by word."""
    path = written(tmp_path_factory.mktemp("plain"), "my.txt", "\n".join(" ".join(words) for words in SENTENCES))
    return [label for column in columns_of(predict_file(tagger, path, device="cpu"), 1) for label in column]


@pytest.mark.parametrize(("separator", "ending"), [("\t", "\n"), (" ", "\n"), ("\t", "\r\n"), (" ", "\r")])
def test_columns_get_one_more(tagger: Run, tags: list[str], tmp_path: Path, separator: str, ending: str) -> None:
    text = COLUMNS.format(separator)
    labelled = predict_file(tagger, written(tmp_path, "my.txt", text.replace("\n", ending)), device="cpu")
    expected = text.split("\n")
    for line, tag in zip((0, 1, 5, 6, 7), tags, strict=True):
        expected[line] += separator + tag
    assert labelled == ending.join(expected)


def test_columns_that_are_named(tagger: Run, tags: list[str], tmp_path: Path) -> None:
    text = "1\tthe\tO\tann\n2\tdog\tB-X\tann\n\n1\tcats\tO\tann\n2\trun\tO\tann\n3\t!\tO\tann\n"
    path = written(tmp_path, "my.iob2", text)
    assert columns_of(predict_file(tagger, path, device="cpu"), 4) == [tags[:2], tags[2:]]
    labelled = predict_file(tagger, path, columns={"labels": "2"}, device="cpu")
    assert columns_of(labelled, 2) == [tags[:2], tags[2:]]
    assert columns_of(labelled, 3) == [["ann", "ann"], ["ann", "ann", "ann"]]
    with pytest.raises(UsageError, match=r"found numbers of words in the column of tokens \(0\), accepted words"):
        predict_file(tagger, path, columns={"tokens": "0"}, device="cpu")


def test_json_lines(tagger: Run, tags: list[str], tmp_path: Path) -> None:
    rows = '{"tokens": ["the", "dog"], "id": 7, "é": "ü"}\n\n{"id": 8, "tokens": []}\n'
    rows += '{"labels": ["O", "O", "O"], "tokens": ["cats", "run", "!"]}\n'
    labelled = predict_file(tagger, written(tmp_path, "my.jsonl", rows), device="cpu")
    first, blank, empty, last, end = labelled.split("\n")
    assert json.loads(first) == {"tokens": ["the", "dog"], "id": 7, "é": "ü", "labels": tags[:2]}
    assert '"é": "ü"' in first
    assert (blank, end, json.loads(empty)) == ("", "", {"id": 8, "tokens": [], "labels": []})
    assert list(json.loads(last).items()) == [("labels", tags[2:]), ("tokens", SENTENCES[1])]
    text = written(tmp_path, "text.jsonl", '{"tokens": "the dog"}\n')
    with pytest.raises(DataError) as error:
        predict_file(tagger, text, device="cpu")
    hint = "--columns tokens=NAME names another column"
    assert str(error.value) == f"{text}:1: tokens: found a text, accepted a list of words; {hint}"


def test_parquet_keeps_its_other_columns(tagger: Run, tags: list[str], tmp_path: Path) -> None:
    features = Features({"words": Sequence(Value("string")), "labels": Sequence(ClassLabel(names=["O"]))})
    features["n"] = Value("int8")
    values = {"words": SENTENCES, "labels": [[0, 0], [0, 0, 0]], "n": [1, 2]}
    Dataset.from_dict(values, features=features).to_parquet(str(tmp_path / "my.parquet"))
    content = predict.predict_file(tagger, tmp_path / "my.parquet", columns={"tokens": "words"}, device="cpu")
    (tmp_path / "out.parquet").write_bytes(content)
    assert pq.read_table(tmp_path / "out.parquet").to_pydict() == {**values, "labels": [tags[:2], tags[2:]]}


def test_conllu_plus(tagger: Run, tags: list[str], tmp_path: Path) -> None:
    def words(text: str, column: int) -> list[str]:
        rows = [line.split("\t") for line in text.split("\n")]
        return [row[column] for row in rows if row[0].isdecimal()]

    rows = "1\tthe\t*\n2-3\tdogrun\t*\n2\tdog\t*\n\n# x\n1\tcats\t*\n2\trun\t*\n3\t!\t*\n"
    path = written(tmp_path, "my.conllup", f"# global.columns = ID FORM PARSEME:MWE\n{rows}")
    labelled = predict_file(tagger, path, device="cpu")
    assert labelled.startswith("# global.columns = ID FORM PARSEME:MWE STILTS:LABEL\n")
    assert "\n2-3\tdogrun\t*\t_\n" in labelled
    assert words(labelled, 3) == tags
    assert predict_file(tagger, written(tmp_path, "again.conllup", labelled), device="cpu") == labelled
    upos = written(tmp_path, "upos.conllup", f"# global.columns = ID FORM UPOS\n{rows}")
    assert words(predict_file(tagger, upos, device="cpu"), 2) == tags
    bad = written(tmp_path, "bad.conllup", "1\tthe\n")
    with pytest.raises(DataError, match=r"bad.conllup:1: found no '# global.columns = ...', accepted it in the first"):
        predict_file(tagger, bad, device="cpu")


def run_on_format(workspace: Workspace, name: str, file_format: str, columns: str, ending: str, labels: str) -> Run:
    """A run on the files `train` and `dev` of that format in the workspace's folder of that name."""
    languages = f"{{en: {{train: train.{ending}, validation: dev.{ending}}}}}"
    folder = workspace.folder / name
    path = folder / f"{name}.yaml"
    write_conllu(folder / "en-train.conllu", [[("the", "A")]])
    write_task(folder, name, labels=labels, bottleneck=LEARNT, languages="{en: {train: en-train.conllu}}")
    yaml = path.read_text(encoding="utf-8").replace("{en: {train: en-train.conllu}}", languages)
    yaml = yaml.replace("format: conllu", f"format: {file_format}")
    path.write_text(yaml.replace("{tokens: form, labels: upos}", columns), encoding="utf-8")
    return workspace.train(str(path))


def test_the_task_s_own_column_of_labels(workspace: Workspace, tmp_path: Path) -> None:
    folder = workspace.folder / "columns"
    folder.mkdir()
    for split, count in (("train", 24), ("dev", 6)):
        drawn = draw_sentences(ENGLISH, count, count)
        blocks = ("".join(f"{word} XX {TAGS[label]}\n" for word, label in sentence) for sentence in drawn)
        written(folder, f"{split}.txt", "\n".join(blocks))
    run = run_on_format(workspace, "columns", "conll", "{tokens: 0, labels: last}", "txt", "open")
    path = written(tmp_path, "my.txt", "the XX _\ndog XX _\n\ncats XX NOUN\n")
    ((the, dog), (cats,)) = columns_of(predict_file(run, path, device="cpu").replace(" ", "\t"), 2)
    assert {the, dog, cats} <= set(TAGS.values())
    alone = written(tmp_path, "alone.txt", "the\ndog\n\ncats\n")
    labelled = predict_file(run, alone, file_format="conll", device="cpu")
    assert labelled == f"the\t{the}\ndog\t{dog}\n\ncats\t{cats}\n"
    other = written(tmp_path, "other.txt", "the DT\ndog NN\n\ncats NNS\n")
    with pytest.raises(UsageError) as error:
        predict_file(run, other, file_format="conll", device="cpu")
    assert "found values such as 'DT', which are no labels of this run, in the column of labels (1)" in str(error.value)
    more = predict_file(run, other, file_format="conll", columns={"labels": "2"}, device="cpu")
    assert more == f"the DT {the}\ndog NN {dog}\n\ncats NNS {cats}\n"


def test_labels_that_would_break_the_file(workspace: Workspace, tmp_path: Path) -> None:
    folder = workspace.folder / "broken"
    folder.mkdir()
    for split in ("train", "dev"):
        written(folder, f"{split}.jsonl", 8 * (json.dumps({"tokens": ["the", "dog"], "labels": ["A\tB", "C"]}) + "\n"))
    columns = "{tokens: tokens, labels: labels}"
    run = run_on_format(workspace, "broken", "jsonl", columns, "jsonl", '["A\\tB", C]')
    path = written(tmp_path, "my.txt", "the dog")
    with pytest.raises(DataError, match=r"found the run's label 'A\\tB', which would break its columns, accepted a"):
        predict_file(run, path, device="cpu")
    rows = predict_file(run, written(tmp_path, "my.jsonl", '{"tokens": ["the"]}\n'), device="cpu")
    assert json.loads(rows)["labels"][0] in ("A\tB", "C")


def test_header_lines_of_texts(workspace: Workspace, tmp_path: Path) -> None:
    run = workspace.train(pairs_task(workspace.folder / "pairs_again", "pairs_again"))
    lines = written(tmp_path, "lines.txt", "the dog\tthe cats\nof and\tto is\n")
    first, second = (line.split("\t")[0] for line in predict_file(run, lines, device="cpu").splitlines())
    table = written(tmp_path, "my.tsv", "id\tother\tone\n1\tthe cats\tthe dog\n2\tto is\tof and\n")
    expected = f"id\tother\tone\tlabel\n1\tthe cats\tthe dog\t{first}\n2\tto is\tof and\t{second}\n"
    assert predict_file(run, table, device="cpu") == expected
    named = written(tmp_path, "named.tsv", "left\tright\nthe dog\tthe cats\nof and\tto is\n")
    with pytest.raises(UsageError, match=r"found a first line that looks like a header \(left, right\), accepted with"):
        predict_file(run, named, device="cpu")
    columns = {"text": "left", "text_pair": "right"}
    labelled = predict_file(run, named, file_format="tsv", columns=columns, device="cpu")
    assert [line.split("\t")[2] for line in labelled.splitlines()] == ["label", first, second]
    conllu = written(tmp_path, "my.conllu", "1\tthe\t_\t_\t_\t_\t_\t_\t_\t_\n")
    with pytest.raises(UsageError, match="found CoNLL-U, accepted tsv, jsonl, parquet, text for labels of texts"):
        predict_file(run, conllu, device="cpu")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the\ndog\n\ncats\n", "found lines of one word each, accepted with --format conll"),
        ("他读书。\n她睡觉。\n", "text without blanks between its words is to be segmented first"),
        ("dog NN\nruns VBZ\n\ncats NNS\nsleep VBP\n", "found lines of 2 words each, accepted with --format conll"),
        ("a1\tThe dog runs .\nb2\tWe all sleep .\n", "found tabs in lines that are not columns of words and labels"),
        ('[{"tokens": ["a"]}]', "found one JSON value, accepted JSON lines: an object a line"),
    ],
)
def test_what_may_be_words_or_labels_is_refused(tagger: Run, tmp_path: Path, content: str, message: str) -> None:
    path = written(tmp_path, "my.txt", content)
    with pytest.raises(UsageError) as error:
        predict_file(tagger, path, device="cpu")
    assert str(error.value).startswith(f"{path}: found ")
    assert message in str(error.value)


def test_other_content_is_refused(tagger: Run, tmp_path: Path) -> None:
    packed = tmp_path / "my.txt.gz"
    packed.write_bytes(gzip.compress(b"the dog"))
    forms = written(tmp_path, "forms.conllu", "1\t_\t_\t_\t_\t_\t_\t_\t_\t_\n")
    mixed = written(tmp_path, "mixed.txt", "the dog\rruns\nof and\n")
    for path, message in (
        (packed, ":1: found a gzip archive, accepted text in UTF-8, or Parquet"),
        (forms, ":1: found _ in FORM on every word, accepted words"),
        (mixed, ":1: found carriage returns within a line, accepted lines that all end alike"),
    ):
        with pytest.raises(DataError) as error:
            predict_file(tagger, path, device="cpu")
        assert str(error.value).startswith(f"{path}{message}")


def test_carriage_returns_alone_end_lines(tagger: Run, tmp_path: Path) -> None:
    plain = predict_file(tagger, written(tmp_path, "lf.txt", "the dog run\nof and\n"), device="cpu")
    assert predict_file(tagger, written(tmp_path, "cr.txt", "the dog run\rof and\r"), device="cpu") == plain
