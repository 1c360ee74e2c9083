"""A user's file gets the labels that evaluation stores for the same sentences, and keeps everything else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_training import ENGLISH, Place, draw_sentences, make_place, pairs_task, write_conllu, write_task

from adapter_stilts.errors import DataError, StiltsError, UsageError
from adapter_stilts.evaluation import predict
from adapter_stilts.evaluation.predictions import read_predictions
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.runs.store import EVALUATIONS, Run, keep_of

TAGS = {"A": "NOUN", "B": "VERB", "C": "X"}
LEARNT = "{learning_rate: 1e-2, epochs: 6, batch_examples: 8}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_place(tmp_path_factory.mktemp("predict"), monkeypatch)


def tagging_run(place: Place, name: str, labels: dict[str, str], column: str) -> Run:
    """A run trained on that CoNLL-U column; its test file ends with a sentence of 1,200 words."""
    folder = place.folder / name
    for split, count, seed in (("train", 24, 1), ("dev", 6, 2), ("test", 8, 3)):
        sentences = draw_sentences(ENGLISH, count, seed)
        if split == "test":
            sentences.append(
                [sentences[0][0], *(pair for own in draw_sentences(ENGLISH, 400, 4) for pair in own)][:1200]
            )
        write_conllu(
            folder / f"en-{split}.conllu", [[(word, labels[own]) for word, own in sentence] for sentence in sentences]
        )
        if column == "deprel":
            path = folder / f"en-{split}.conllu"
            rows = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")]
            moved = [[*row[:3], "_", *row[4:6], "7", row[3], *row[8:]] if len(row) == 10 else row for row in rows]
            path.write_text("\n".join("\t".join(row) for row in moved), encoding="utf-8")
    task = write_task(folder, name, labels=f"[{', '.join(labels.values())}]", bottleneck=LEARNT)
    yaml = task.path.read_text(encoding="utf-8").replace("labels: upos", f"labels: {column}")
    task.path.write_text(yaml, encoding="utf-8")
    return place.train(str(task.path))


@pytest.fixture(scope="module")
def tagger(place: Place) -> Run:
    return tagging_run(place, "tags", TAGS, "upos")


def predict_file(run: Run, path: Path, **options: Any) -> str:
    return predict.predict_file(run, path, **options).decode()


def stored(run: Run, split: str) -> list[list[str]]:
    """What evaluation stored."""
    evaluate(run, split=split, device="cpu")
    (folder,) = (run.folder / EVALUATIONS).glob(f"{split}-*")
    return [list(own) for own in read_predictions(folder)["en"].predicted]


def columns_of(text: str, column: int) -> list[list[str]]:
    """A column of a CoNLL-U or tab-separated text, by sentence."""
    return [[line.split("\t")[column] for line in block.split("\n")] for block in text.strip("\n").split("\n\n")]


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_same_labels_as_evaluation_for_conllu_and_plain_text(place: Place, tagger: Run, tmp_path: Path) -> None:
    expected = stored(tagger, "test")
    assert {label for own in expected for label in own} == set(TAGS.values())  # not one label for everything
    assert [len(own) for own in expected][-1] == 1200
    source = place.folder / "tags" / "en-test.conllu"
    text = source.read_text(encoding="utf-8")
    labelled = predict_file(tagger, source, device="cpu")
    assert columns_of(labelled, 3) == expected
    words = columns_of(text, 1)
    plain = written(tmp_path, "words.txt", "\n \n" + "\n\n".join("  ".join(own) for own in words))
    assert predict_file(tagger, plain, device="cpu") == "\n".join(
        "".join(f"{word}\t{tag}\n" for word, tag in zip(own, tags, strict=True))
        for own, tags in zip(words, expected, strict=True)
    )


def test_portions_change_nothing(tagger: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = draw_sentences(ENGLISH, 10, 5)
    path = written(tmp_path, "words.txt", "\n".join(" ".join(word for word, _ in own) for own in sentences))
    whole = predict_file(tagger, path, device="cpu")
    monkeypatch.setattr(predict, "PORTION", 3)
    assert predict_file(tagger, path, device="cpu") == whole
    assert [line.split("\t")[0] for line in whole.split("\n") if line] == [word for own in sentences for word, _ in own]


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


def test_deprel_goes_to_its_column_and_leaves_the_head(place: Place) -> None:
    run = tagging_run(place, "relations", {"A": "nsubj", "B": "obj", "C": "root"}, "deprel")
    labelled = predict_file(run, place.folder / "relations" / "en-test.conllu", device="cpu")
    assert columns_of(labelled, 7) == stored(run, "test")
    assert {head for own in columns_of(labelled, 6) for head in own} == {"7"}
    assert {tag for own in columns_of(labelled, 3) for tag in own} == {"_"}


def test_other_labels_go_to_misc(place: Place, tmp_path: Path) -> None:
    run = tagging_run(place, "others", {"A": "A|1", "B": "B", "C": "O"}, "upos")
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


def test_text_pairs(place: Place, tmp_path: Path) -> None:
    run = place.train(pairs_task(place.folder / "pairs"))
    rows = (place.folder / "pairs" / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
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


def test_no_file_and_no_weights(place: Place, tagger: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        predict_file(tagger, tmp_path / "none.txt", device="cpu")
    assert str(error.value) == f"{tmp_path / 'none.txt'}: found no such file or directory, accepted a readable file"
    run = place.train(str(place.folder / "tags" / "tags.yaml"), seed=1, settings={"epochs": "1"})
    keep_of(run, "scores")
    with pytest.raises(StiltsError, match="weights of this run were not kept"):
        predict_file(run, written(tmp_path, "own.txt", "the dog"), device="cpu")
