"""Checks of annotated data: planted mistakes found in their lines, good data passed, one reader with tasks."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.training import make_workspace

import adapter_stilts
from adapter_stilts.checking.check import check_files
from adapter_stilts.checking.findings import CODES, Finding
from adapter_stilts.checking.sentences import surface
from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.conllu import misc_values, read_sentences
from adapter_stilts.tasks.data import load_split
from adapter_stilts.tasks.encode import encode_split
from adapter_stilts.tasks.inventory import label_inventory
from adapter_stilts.tasks.readers import read_conllu

SHIPPED = Path(adapter_stilts.__file__).parent / "embedded_data"
DEV, TRAIN, DE, EN, RU = "en-dev.conllu", "en-train.conllu", "test/de.conllu", "test/en.conllu", "test/ru.conllu"
LANGUAGES = ("ar", "de", "en", "es", "fi", "fr", "hi", "ja", "ko", "ru", "sw", "th", "tr", "zh")
STRICT = {"varied": True, "parallel": True, "minimum": 52}
TASK = """\
name: own
version: 1
kind: tagging
role: both
knowledge: syntactic
granularity: token
description: words of one's own
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
labels: open
{more}data:
  format: conllu
  columns: {{tokens: form, labels: {column}}}
  languages:
    en: {{train: my.conllu}}
"""


# --- what passes --------------------------------------------------------------------------------------------------


def test_shipped_data_pass_all_checks() -> None:
    report = check_files([SHIPPED], **STRICT)
    assert [str(finding) for finding in report.findings] == []
    sentences = {str(file.path.relative_to(SHIPPED)): len(file.sentences) for file in report.files}
    assert sentences == {DEV: 66, TRAIN: 425, **{f"test/{code}.conllu": 52 for code in LANGUAGES}}
    missing = {str(file.path.relative_to(SHIPPED)): file.unchecked for file in report.files}
    assert missing == {DEV: (), TRAIN: (), **{f"test/{code}.conllu": ("HEAD", "DEPREL", "Sem") for code in LANGUAGES}}
    assert (report.files[0].language, report.files[0].role, report.files[-1].role) == ("en", "dev", "test")


RANGES = """\
# newdoc
# sent_id = 1
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\t_\t_\t5\tcase\t_\t_
4\tel\tel\tDET\t_\t_\t5\tdet\t_\t_
4.1\tgran\tgran\tADJ\t_\t_\t_\t_\t5:amod\t_
4.2\tlindo\tlindo\tADJ\t_\t_\t_\t_\t5:amod\t_
5\tmar\tmar\tNOUN\t_\t_\t1\tobl:arg\t_\t_

# sent_id = 2
# text = Sue no(s).
0.1\t_\t_\tPRON\t_\t_\t_\t_\t2:nsubj\t_
1\tSue\tSue\tPROPN\t_\t_\t0\troot\t_\tEntity=(e1-person-1)
2-3\tno(s)\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
2\tno\tno\tDET\t_\t_\t1\tdet\t_\tSpaceAfter=No
3\ts\ts\tNOUN\t_\t_\t1\tflat\t_\t_
4\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\tSpacesAfter=\\n

"""


def test_ranges_and_empty_nodes_are_as_in_ud(tmp_path: Path) -> None:
    path = written(tmp_path, RANGES)
    report = check_files([path])
    assert report.findings == ()
    assert report.files[0].unchecked == ("Entity", "Sem")  # CorefUD keeps other things under Entity
    assert report.summary == (
        "1 file, 2 sentences, 9 words, no findings;"
        " not checked, for want of it: Entity (1 of 1 files), Sem (1 of 1 files)"
    )
    assert [surface(sentence) for sentence in report.files[0].sentences] == ["Vámonos al mar", "Sue no(s)."]


def test_a_file_with_words_alone_is_spared_what_it_has_not(tmp_path: Path) -> None:
    path = written(tmp_path, "1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n2\tb\t_\t_\t_\t_\t_\t_\t_\tX=1\n\n")
    report = check_files([path], varied=True)
    assert report.findings == ()
    assert report.files[0].unchecked == ("UPOS", "HEAD", "DEPREL", "Entity", "Sem", "sent_id", "text")


def test_short_sentences_and_other_languages_may_repeat(tmp_path: Path) -> None:
    thanks = "".join(
        f"{number}\t{word}\t_\t_\t_\t_\t_\t_\t_\t_\n" for number, word in enumerate(("ThAnk", "you", "all", "!"), 1)
    )
    assert check_files([written(tmp_path, 2 * f"{thanks}\n")]).findings == ()
    four = thanks.replace("!", "Ö")
    (finding,) = check_files([written(tmp_path, f"{four}\n{four.replace('ThAnk', 'thank-')}\n")]).findings
    assert (finding.line, finding.code) == (6, "duplicate")


# --- planted mistakes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted:
    """A mistake in `file`: `edit` changes its lines, at the line `at` words after `# sent_id = sentence` (0: that line,
    1: the text, 2 (3 where there is a text_en): the first word); it is found `later` lines after that."""

    file: str
    sentence: str
    at: int
    edit: Callable[[list[str], int], None]
    code: str
    message: str
    later: int = 0


def swap(old: str, new: str) -> Callable[[list[str], int], None]:
    """Another text in the line."""

    def edit(lines: list[str], at: int) -> None:
        assert lines[at].count(old) == 1, lines[at]
        lines[at] = lines[at].replace(old, new)

    return edit


def column(number: int, old: str, new: str) -> Callable[[list[str], int], None]:
    """Another value in a column, from 0."""

    def edit(lines: list[str], at: int) -> None:
        fields = lines[at].split("\t")
        assert fields[number] == old, lines[at]
        fields[number] = new
        lines[at] = "\t".join(fields)

    return edit


def insert(line: str) -> Callable[[list[str], int], None]:
    return lambda lines, at: lines.insert(at, line)


def remove(lines: list[str], at: int) -> None:
    del lines[at]


def truncate(lines: list[str], _: int) -> None:
    assert lines[-2:] == ["", ""]
    del lines[-1]


def sentence_again(name: str) -> Callable[[list[str], int], None]:
    """The sentence once more before this one, under another name."""

    def edit(lines: list[str], at: int) -> None:
        start = lines.index(f"# sent_id = {name}")
        end = lines.index("", start) + 1
        lines[at:at] = [f"# sent_id = {name}-again", *lines[start + 1 : end]]

    return edit


def relation(number: int) -> str:
    return "root" if number == 1 else "dep"


def words_again(words: str, times: int) -> Callable[[list[str], int], None]:
    """Sentences with the same words in the midst, each of another UPOS sequence, before this one."""

    def edit(lines: list[str], at: int) -> None:
        block: list[str] = []
        for time in range(times):
            rows = [("x" * (time + 1), "X")] * (time + 1) + [(word, "NOUN") for word in words.split()]
            block += [f"# sent_id = again-{time}", f"# text = {' '.join(word for word, _ in rows)}"]
            block += [
                f"{number}\t{word}\t_\t{tag}\t_\t_\t{number - 1}\t{relation(number)}\t_\tEntity=O|Sem=OBJ"
                for number, (word, tag) in enumerate(rows, 1)
            ]
            block.append("")
        lines[at:at] = block

    return edit


def other_words(lines: list[str], at: int) -> None:
    """The sentence once more before this one, with all of its words reversed."""
    end = lines.index("", at)
    rows = [line.split("\t") for line in lines[at + 2 : end]]
    block = ["\t".join([row[0], row[1][::-1] + "q", *row[2:]]) for row in rows]
    text = "".join(row.split("\t")[1] + ("" if "SpaceAfter=No" in row else " ") for row in block).rstrip()
    lines[at:at] = ["# sent_id = reversed", f"# text = {text}", *block, ""]


def from_train(lines: list[str], at: int) -> None:
    """The words of a training sentence in the place of this one's."""
    train = (SHIPPED / TRAIN).read_text(encoding="utf-8").split("\n\n")[6].split("\n")
    rows = [line.split("\t") for line in train[2:]]
    plain = ["\t".join([*row[:6], "_", "_", "_", row[9].rpartition("|Sem=")[0]]) for row in rows]
    lines[at + 1 : lines.index("", at)] = [train[1], lines[at + 2], *plain]


def swap_sentences(lines: list[str], at: int) -> None:
    """This sentence after the next one."""
    middle = lines.index("", at) + 1
    end = lines.index("", middle) + 1
    lines[at:end] = lines[middle:end] + lines[at:middle]


def other_translation(lines: list[str], at: int) -> None:
    assert lines[at].startswith("# text_en = ")
    lines[at] = "# text_en = Something else."


def remove_sentence(lines: list[str], at: int) -> None:
    del lines[at : lines.index("", at) + 1]


PLANTED: dict[str, Planted] = {
    "a column too few": Planted(
        DEV, "en-dev-002", 4, swap("\t_\tEntity=O", "\tEntity=O"), "columns", "found 9 columns"
    ),
    "blanks for tabs": Planted(DEV, "en-dev-002", 4, swap("\tour\tPRON", " our PRON"), "columns", "found 8 columns"),
    "a number left out": Planted(DEV, "en-dev-002", 6, column(0, "5", "6"), "id", "word number '6', accepted 5"),
    "a lost blank line": Planted(DEV, "en-dev-003", -1, remove, "id", "word number '1', accepted 15", 2),
    "no last blank line": Planted(EN, "p52", 0, truncate, "blank-line", "no blank line after the last sentence", 12),
    "two blank lines": Planted(DE, "p05", 0, insert(""), "blank-line", "a blank line with no sentence above"),
    "a carriage return": Planted(DE, "p02", 3, swap("_\tEntity=O", "_\tEntity=O\r"), "line-end", "carriage return"),
    "Latin 1": Planted(DE, "p01", 4, column(2, "_", "\udcfc"), "utf-8", "bytes that are not UTF-8"),
    "a comment after a word": Planted(DEV, "en-dev-002", 5, insert("# note"), "comment", "a comment after a word"),
    "a range too early": Planted(
        DEV,
        "en-dev-007",
        3,
        insert("3-4\tn't snowed\t_\t_\t_\t_\t_\t_\t_\t_"),
        "range",
        "the range 3-4, accepted a range that",
    ),
    "an empty node's number": Planted(
        DEV, "en-dev-007", 5, insert("3.2\tx\t_\tX\t_\t_\t_\t_\t_\t_"), "range", "the empty node 3.2, accepted 3.1"
    ),
    "an empty column": Planted(DEV, "en-dev-002", 3, column(2, "miss", ""), "empty", "found nothing in LEMMA"),
    "a blank after a lemma": Planted(
        DEV, "en-dev-002", 3, column(2, "miss", "miss "), "empty", "around 'miss ' in LEMMA"
    ),
    "a key twice in MISC": Planted(
        DEV, "en-dev-002", 3, swap("Entity=O", "Entity=O|Entity=O"), "misc", "Entity 2 times"
    ),
    "SpaceAfter=Yes": Planted(DEV, "en-dev-002", 3, swap("O|S", "O|SpaceAfter=Yes|S"), "misc", "found SpaceAfter=Yes"),
    "a sent_id twice": Planted(
        DEV, "en-dev-003", 0, swap("003", "002"), "sent_id", "found the sent_id en-dev-002 of line 18"
    ),
    "no sent_id": Planted(DEV, "en-dev-003", 0, remove, "sent_id", "found no '# sent_id = ...'"),
    "no text": Planted(DEV, "en-dev-003", 1, remove, "text", "found no '# text = ...'", -1),
    "another text": Planted(
        DEV, "en-dev-002", 1, swap("flight", "fligth"), "text", "'sed our fligth because t', accepted 'sed our flight b"
    ),
    "a lost SpaceAfter": Planted(
        DEV, "en-dev-002", 14, swap("SpaceAfter=No|", ""), "text", "accepted ' the airport .' as", -13
    ),
    "a tag that UPOS has not": Planted(DE, "p02", 5, column(3, "VERB", "VVFIN"), "upos", "found the UPOS 'VVFIN'"),
    "a missing UPOS": Planted(DE, "p02", 5, column(3, "VERB", "_"), "upos", "found the UPOS '_', accepted ADJ, ADP"),
    "a relation of UD v1": Planted(
        DEV, "en-dev-002", 5, column(7, "obj", "dobj"), "deprel", "found the relation 'dobj'"
    ),
    "a subtype's capital": Planted(
        DEV, "en-dev-002", 4, column(7, "nmod:poss", "nmod:Poss"), "deprel", "the subtype 'Poss' of nmod"
    ),
    "a full stop that is a SYM": Planted(
        DEV, "en-dev-002", 15, column(3, "PUNCT", "SYM"), "punct", "punct with UPOS SYM, accepted PUNCT"
    ),
    "a full stop that is a dep": Planted(
        DEV, "en-dev-002", 15, column(7, "punct", "dep"), "punct", "UPOS PUNCT with the relation dep, accepted punct"
    ),
    "a HEAD past the end": Planted(DEV, "en-dev-002", 8, column(6, "8", "18"), "head", "HEAD '18' on word 7"),
    "a HEAD on itself": Planted(
        DEV, "en-dev-002", 8, column(6, "8", "7"), "head", "HEAD '7' on word 7, accepted another"
    ),
    "two roots": Planted(DEV, "en-dev-002", 12, column(6, "2", "0"), "root", "a second root (the first is word 2)"),
    "no root": Planted(DEV, "en-dev-002", 3, column(6, "0", "11"), "root", "found no root"),
    "a root of another name": Planted(
        DEV, "en-dev-002", 3, column(7, "root", "ccomp"), "root", "HEAD 0 with the relation ccomp, accepted root"
    ),
    "root in the midst": Planted(
        DEV, "en-dev-002", 12, column(7, "advcl", "root"), "root", "the relation root with HEAD 2, accepted HEAD 0"
    ),
    "a cycle": Planted(DEV, "en-dev-002", 12, column(6, "2", "8"), "cycle", "the cycle of heads 8 > 11 > 8", -3),
    "an entity that begins inside": Planted(
        DE, "p02", 4, swap("B-LOC", "I-LOC"), "entity", "I-LOC after O, accepted it after B-LOC"
    ),
    "an entity that changes": Planted(
        EN, "p04", 3, swap("I-PER", "I-ORG"), "entity", "I-ORG after B-PER, accepted it after B-ORG or I-ORG"
    ),
    "an unknown entity type": Planted(DE, "p02", 4, swap("B-LOC", "B-GPE"), "entity-type", "the entity type 'GPE'"),
    "a tag without B": Planted(
        DE, "p02", 4, swap("B-LOC", "LOC"), "entity", "the entity tag 'LOC', accepted O, B-TYPE"
    ),
    "no entity tag": Planted(DE, "p02", 5, swap("Entity=O", "_"), "entity", "found no Entity in MISC"),
    "an unknown semantic tag": Planted(DEV, "en-dev-002", 4, swap("REF", "RFE"), "sem", "the semantic tag 'RFE'"),
    "no semantic tag": Planted(DEV, "en-dev-002", 4, swap("|Sem=REF", ""), "sem", "found no Sem in MISC"),
    "HEAD on one word": Planted(DE, "p02", 5, column(6, "_", "2"), "partial", "found HEAD on 1 of 651 words"),
    "a sentence twice": Planted(
        TRAIN, "en-train-008", 0, sentence_again("en-train-002"), "duplicate", "en-train.conllu:14, accepted each once"
    ),
    "training data in test data": Planted(RU, "p10", 0, from_train, "leak", "a test sentence that training data have"),
    "a missing translation": Planted(RU, "p07", 0, remove_sentence, "parallel", "found no sentence p07 here"),
    "a sentence too many": Planted(EN, "p07", 0, other_words, "parallel", "found the sentence reversed, which", 0),
    "another order": Planted(RU, "p07", 0, swap_sentences, "parallel", "found p08, accepted p07 first as in"),
    "another translation": Planted(RU, "p07", 2, other_translation, "parallel", "found the text_en 'Something else.'"),
    "four words too often": Planted(
        TRAIN,
        "en-train-005",
        0,
        words_again("so tell me quickly", 4),
        "n-gram",
        "'so tell me quickly' in 4 sentences",
        33,
    ),
    "a UPOS sequence twice": Planted(
        DEV, "en-dev-005", 0, other_words, "tag-sequence", "DET NOUN ADP PROPN NOUN PUNCT in 2 sentences", 14
    ),
}
TWO_FINDINGS = {"a missing translation", "a sentence too many"}  # what they are, and what follows from it
STOPS_THE_READER = {"columns", "id", "utf-8"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "data"))


def plant(folder: Path, planted: Planted) -> int:
    """Writes the mistake; returns the line in which it is to be found."""
    path = folder / planted.file
    lines = path.read_text(encoding="utf-8").split("\n")
    start = lines.index(f"# sent_id = {planted.sentence}")
    planted.edit(lines, start + planted.at)
    path.write_bytes("\n".join(lines).encode("utf-8", errors="surrogateescape"))
    return start + planted.at + planted.later + 1


@pytest.mark.parametrize("name", PLANTED)
def test_planted_mistakes_are_found_in_their_lines(copy: Path, name: str) -> None:
    planted = PLANTED[name]
    line = plant(copy, planted)
    findings = check_files([copy], **STRICT).findings
    expected = (copy / planted.file, line, planted.code)
    (finding,) = [finding for finding in findings if (finding.file, finding.line, finding.code) == expected] or [
        findings
    ]
    assert isinstance(finding, Finding), findings
    assert planted.message in finding.message
    assert f"{copy / planted.file}:{line}: " in str(finding)
    assert len(findings) == (2 if name in TWO_FINDINGS else 1), findings
    if planted.code in STOPS_THE_READER:
        with pytest.raises(DataError) as caught:
            read_conllu(copy / planted.file, ["form"])
        assert str(caught.value).startswith(f"{copy / planted.file}:{line}: found ")
    else:
        assert read_conllu(copy / planted.file, ["form", "upos"]).lines is not None


# Those of other formats, and of files that have only a part of what CoNLL-U holds: test_checking_formats.py
OTHER_CODES = ("read", "form", "nothing", "label", "spans", "unseen")


def test_every_code_is_planted() -> None:
    assert {planted.code for planted in PLANTED.values()} == set(CODES) - {"count", *OTHER_CODES}


def test_counts_and_what_is_skipped(copy: Path) -> None:
    (finding,) = check_files([copy / EN], minimum=53).findings
    last = len((copy / EN).read_text(encoding="utf-8").rstrip("\n").split("\n"))
    assert (finding.line, finding.code, finding.message) == (last, "count", "found 52 sentences, accepted 53 or more")
    assert check_files([copy / EN], minimum=53, skip=["count"]).findings == ()
    (empty,) = check_files([written(copy, "")]).findings
    assert str(empty) == f"{copy / 'my.conllu'}:1: found 0 sentences, accepted 1 or more [count]"


def test_refusals(copy: Path) -> None:
    with pytest.raises(UsageError, match=r"^--parallel: found no such files, accepted files in one folder whose names"):
        check_files([copy / DE, copy / DEV], parallel=True)
    with pytest.raises(UsageError, match=r"none.conllu: found no such file, accepted data files"):
        check_files([copy / "none.conllu"])
    (copy / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: found no \.conllu file in the folder"):
        check_files([copy / "empty"])


# --- one reader ---------------------------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    path = folder / "my.conllu"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_check_goes_on_where_a_task_stops() -> None:
    row = "{}\tw\t_\tX\t_\t_\t_\t_\t_\t_"
    lines = ["# a", row.format(1), row.format(3), row.format(9), "# b", row.format(1), "1\tx", "", "# c"]
    complaints: list[tuple[int, str]] = []
    sentences = list(read_sentences(list(enumerate(lines, 1)), lambda line, code, _: complaints.append((line, code))))
    assert complaints == [(3, "id"), (7, "columns")]
    assert [(sentence.whole, sentence.line, [line for line, _ in sentence.words]) for sentence in sentences] == [
        (False, 1, [2, 3, 4]),
        (False, 5, [6]),
        (True, 9, []),
    ]
    assert misc_values("A=1|B|C=x=y\\pz|D=") == {"A": "1", "C": "x=y|z", "D": ""}


@pytest.mark.parametrize(
    ("column", "more", "labels"),
    [
        ("upos", "", ["PROPN", "VERB", "PROPN", "PUNCT"]),
        ("deprel", "label_until: ':'\n", ["nsubj", "root", "obl", "punct"]),
        ("misc.Entity", "", ["B-PER", "O", "B-LOC", "O"]),
        ("misc.Sem", "", ["NAM", "ACT", "NAM", "PUN"]),
    ],
)
def test_a_task_reads_a_file_that_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, more: str, labels: list[str]
) -> None:
    rows = [("Ana", "PROPN", 2, "nsubj:pass", "B-PER", "NAM"), ("left", "VERB", 0, "root", "O", "ACT")]
    rows += [("Rome", "PROPN", 2, "obl", "B-LOC", "NAM"), (".", "PUNCT", 2, "punct", "O", "PUN")]
    words = "".join(
        f"{number}\t{form}\t_\t{upos}\t_\t_\t{head}\t{deprel}\t_\tEntity={entity}|Sem={sem}\n"
        for number, (form, upos, head, deprel, entity, sem) in enumerate(rows, 1)
    )
    assert check_files([written(tmp_path, f"# sent_id = 1\n# text = Ana left Rome .\n{words}\n")]).findings == ()
    (tmp_path / "own.yaml").write_text(TASK.format(column=column, more=more), encoding="utf-8")
    task = find_task(str(tmp_path / "own.yaml"))
    workspace = make_workspace(tmp_path, monkeypatch)
    assert load_split(task, "en", "train", None).columns == {
        "tokens": [["Ana", "left", "Rome", "."]],
        "labels": [labels],
    }
    inventory = label_inventory(task, None)
    assert inventory == tuple(sorted(set(labels)))
    encoded = encode_split(task, "en", "train", workspace.backbone.tokenizer, inventory)
    assert [inventory[label] for label in encoded.targets["label"]] == labels


def test_a_key_that_a_word_has_not_in_misc(tmp_path: Path) -> None:
    word = "{}\tw\t_\t_\t_\t_\t_\t_\t_\t{}\n"
    path = written(tmp_path, word.format(1, "Label=a\\pb|X=1") + word.format(2, "X") + "\n")
    with pytest.raises(DataError) as caught:
        read_conllu(path, ["form", "misc.Label"])
    assert str(caught.value) == f"{path}:2: found no Label in MISC, accepted Label=LABEL on every word"
    path = written(tmp_path, word.format(1, "Label=a\\pb|X=1"))
    assert read_conllu(path, ["misc.Label", "misc"]).columns == {"misc.Label": [["a|b"]], "misc": [["Label=a\\pb|X=1"]]}
    (tmp_path / "own.yaml").write_text(TASK.format(column="misc.", more=""), encoding="utf-8")
    with pytest.raises(UsageError, match=r"labels: found 'misc\.', accepted .*misc, or misc\.KEY for a value in MISC$"):
        find_task(str(tmp_path / "own.yaml"))
