"""The shipped tasks are what the benchmarks say; a user's task is checked beyond types, with file, line and key."""

from pathlib import Path

import pytest
from support.training import TEXT_HEAD

import adapter_stilts
from adapter_stilts.errors import ConfigError, UsageError
from adapter_stilts.languages import LANGUAGE_LISTS
from adapter_stilts.tasks.catalog import all_tasks, find_task
from adapter_stilts.tasks.data import load_split
from adapter_stilts.tasks.recipes import recipe_for

# XTREME-R's lists, as in evaluate.py of google-research/xtreme.
UDPOS = (
    "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko lt mr nl pl pt ro ru ta te th tl tr uk ur vi wo yo zh"
)
PANX = (
    "af ar az bg bn de el en es et eu fa fi fr gu he hi hu id it ja jv ka kk ko lt ml mr ms my nl pa pl pt qu ro ru sw "
    "ta te th tl tr uk ur vi yo zh"
)

MINE = """\
name: mine
version: 1
kind: tagging
role: target
knowledge: syntactic
granularity: token
description: words
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
labels: [A, B]
data:
  format: conllu
  columns: {tokens: form, labels: upos}
  languages:
    en: {train: train.conllu}
"""


def mine(folder: Path, text: str = MINE) -> Path:
    (folder / "train.conllu").write_text("1\ta\t_\tA\t_\t_\t0\t_\t_\t_\n", encoding="utf-8")
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_tasks() -> None:
    tasks = {task.name: task for task in all_tasks()}
    kinds = {name: (task.kind, task.role, task.knowledge, task.granularity) for name, task in tasks.items()}
    assert kinds == {
        "chunking": ("tagging", "intermediate", "syntactic", "token"),
        "cola": ("classification", "intermediate", "syntactic", "sentence"),
        "commonsenseqa": ("multiple_choice", "intermediate", "semantic", "sentence"),
        "copa": ("multiple_choice", "intermediate", "semantic", "sentence"),
        "embedded_deprel": ("tagging", "intermediate", "syntactic", "token"),
        "embedded_entities": ("tagging", "target", "semantic", "token"),
        "embedded_semtag": ("tagging", "intermediate", "semantic", "token"),
        "embedded_udpos": ("tagging", "target", "syntactic", "token"),
        "mlm_text": ("masked_lm", "intermediate", "none", "token"),
        "mrpc": ("classification", "intermediate", "semantic", "sentence"),
        "pawsx_devtest": ("classification", "intermediate", "syntactic", "sentence"),
        "pmb_ccg": ("tagging", "intermediate", "syntactic", "token"),
        "pmb_semtag": ("tagging", "intermediate", "semantic", "token"),
        "rte": ("classification", "intermediate", "semantic", "sentence"),
        "snli_devtest": ("classification", "intermediate", "semantic", "sentence"),
        "ud_deprel": ("tagging", "intermediate", "syntactic", "token"),
        "udpos": ("tagging", "target", "syntactic", "token"),
        "wikiann": ("tagging", "target", "semantic", "token"),
        "xcopa": ("multiple_choice", "target", "semantic", "sentence"),
        "xnli": ("classification", "intermediate", "semantic", "sentence"),
    }
    assert all(task.path.stem == name and task.citation.startswith("@") for name, task in tasks.items())
    assert sorted(tasks["udpos"].data.languages) == UDPOS.split()
    assert sorted(tasks["wikiann"].data.languages) == PANX.split()
    assert sorted(tasks["xnli"].data.languages) == list(LANGUAGE_LISTS["xtreme-r"]["xnli"])
    assert len(tasks["mlm_text"].data.languages) == 49
    polish = tasks["udpos"].data.languages["pl"]
    assert (polish.dataset, polish.revision, polish.config) == ("commul/universal_dependencies", "2.17", "pl_lfg")


def test_embedded_data_are_found_wherever_the_yaml_lies(tmp_path: Path) -> None:
    text = MINE.replace("labels: [A, B]", "labels: open").replace("train.conllu", '"embedded:en-dev.conllu"')
    task = find_task(str(mine(tmp_path, text)))
    assert task.file("embedded:en-dev.conllu") == Path(adapter_stilts.__file__).parent / "embedded_data/en-dev.conllu"
    assert task.file("train.conllu") == tmp_path / "train.conllu"
    rows = load_split(task, "en", "train", None).columns
    assert (len(rows["tokens"]), sum(map(len, rows["tokens"]))) == (66, 831)  # as the data's README has it
    with pytest.raises(UsageError, match=r":17: data\.languages\.en\.train: found no file .*embedded_data/nothing"):
        find_task(str(mine(tmp_path, text.replace("en-dev.conllu", "nothing"))))


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        UsageError, match=r"^task 'udpso': found no such task \(did you mean 'udpos'\?\), accepted chunking"
    ):
        find_task("udpso")
    with pytest.raises(UsageError, match=r"^nowhere/mine\.yaml: found no such file, accepted a task's YAML file$"):
        find_task("nowhere/mine.yaml")


def test_a_path_serves_as_a_name_and_follows_the_file(tmp_path: Path) -> None:
    path = mine(tmp_path)
    assert find_task(str(path)).path == path.resolve()
    mine(tmp_path, MINE.replace("version: 1", "version: 23"))
    assert find_task(str(path)).version == 23


HUB = ("  format: conllu\n", "  dataset: some/thing\n")
CLASSES = ("kind: tagging", "kind: classification")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("    en: {", "    qx: {")], ":17: data.languages.qx: "),
        (
            [("labels: [A", "train_language: de\nlabels: [A")],
            ":12: train_language: found de, accepted one of data.langu",
        ),
        ([("c: accuracy", "c: f1")], ":11: selection_metric: found f1, accepted a result of `metrics`: accuracy"),
        (
            [("[accuracy]", "[span_f1, official_tag_f1]")],
            ":10: metrics: found span_f1, official_tag_f1, accepted each re",
        ),
        (
            [("[accuracy]", "[accuracy, f2]")],
            ":10: metrics[1]: found 'f2', accepted accuracy, span_f1, official_tag_f1 (kind tagging)",
        ),
        ([("[A, B]", "[A, B, A]")], ":12: labels: found 'A' twice, accepted each label once"),
        ([("labels: [A, B]\n", "")], ":1: labels: found nothing, accepted a list of labels, or `open` (a conllu file"),
        (
            [("tokens: form", "text: form")],
            ":15: data.columns.text: found an unknown column, accepted tokens, labels (kind",
        ),
        ([("tokens: form, ", "")], ":15: data.columns.tokens: found nothing, accepted tokens, labels (kind tagging)"),
        ([("form, ", "word, ")], ":15: data.columns.tokens: found 'word', accepted id, form, lemma, upos, xpos, feats"),
        (
            [("t: conllu", "t: conll")],
            ":15: data.columns.tokens: found 'form', accepted the number of a column, from 0,",
        ),
        (
            [("t: conllu", "t: tsv")],
            ":14: data.format: found tsv, accepted conllu, conll, jsonl, parquet (kind tagging)",
        ),
        ([("train: train", "train: trian")], ":17: data.languages.en.train: found no file "),
        ([("{train: train.conllu}", "{}")], ":17: data.languages.en: found no path, accepted a path for one or more"),
        (
            [("  columns", "  filter: {x: [a]}\n  columns")],
            ":15: data.filter: found a filter on a conllu file, accepted n",
        ),
        (
            [("  format: conllu\n", "")],
            ":16: data.languages.en: found neither a dataset nor a format, accepted data.data",
        ),
        ([HUB], ":17: data.languages.en: found no config, accepted the name of a config of the repository"),
        (
            [HUB, ("{train", "{config: c, train")],
            ":17: data.languages.en.train: found a path without a format, accepted",
        ),
        (
            [HUB, ("some/thing", "something"), ("{train: train.conllu}", "c")],
            ":14: data.dataset: found something, accept",
        ),
        (
            [CLASSES, ("[accuracy]", "[span_f1]"), ("tokens: form, labels: upos", "text: a, label: b")],
            ":10: metrics[0]: found 'span_f1', accepted accuracy (kind classification)",
        ),
        ([CLASSES], ":15: data.columns.tokens: found an unknown column, accepted text, label, text_pair (kind classif"),
        (
            [("data:", "development_share: 0.1\ndata:\n  splits: {validation: dev}")],
            ":15: data.splits.validation: found a",
        ),
    ],
)
def test_checks_beyond_types(tmp_path: Path, changes: list[tuple[str, str]], message: str) -> None:
    text = MINE
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = mine(tmp_path, text).resolve()
    with pytest.raises(UsageError) as error:
        find_task(str(path))
    lines = [line.removeprefix(str(path)) for line in str(error.value).split("\n")]
    assert message in [line[: len(message)] for line in lines]
    assert len(lines) <= 5


def test_all_that_is_wrong_beyond_types_is_said_at_once(tmp_path: Path) -> None:
    text = MINE.replace("c: accuracy", "c: f1").replace("[A, B]", "[A, B, A]").replace("form, ", "word, ")
    text = text.replace("{train: train.conllu}", "{train: trian.conllu, test: tset.conllu}")
    path = mine(tmp_path, text + "recipes: {full: {embeded: {}}, head: {large: {}}}\n").resolve()
    with pytest.raises(ConfigError) as error:
        find_task(str(path))
    assert [line.removeprefix(str(path)).partition(",")[0] for line in error.value.lines] == [
        ":11: selection_metric: found f1",
        ":12: labels: found 'A' twice",
        ":15: data.columns.tokens: found 'word'",
        f":17: data.languages.en.train: found no file {tmp_path}/trian.conllu",
        f":17: data.languages.en.test: found no file {tmp_path}/tset.conllu",
        ":18: recipes.full.embeded: found 'embeded' (did you mean 'embedded'?)",
        ":18: recipes.head.large: found 'large'",
    ]


def test_recipes_of_a_folder_are_found_however_it_is_written(tmp_path: Path) -> None:
    recipes = "recipes: {full: {./tiny: {epochs: 3}, me/other: {epochs: 4}, default: {epochs: 5}}}\n"
    task = find_task(str(mine(tmp_path, MINE + recipes)))
    epochs = [recipe_for(task, "full", backbone).epochs for backbone in ("tiny", "./tiny", "me/other", "embedded")]
    assert epochs == [3, 3, 4, 5]


def test_home_folders_in_names_and_data_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tasks").mkdir()
    mine(tmp_path / "tasks", MINE.replace("train.conllu", "~/data.conllu"))
    (tmp_path / "tasks" / "train.conllu").rename(tmp_path / "data.conllu")
    task = find_task("~/tasks/mine.yaml")
    assert (task.path, task.file("~/data.conllu")) == (tmp_path / "tasks" / "mine.yaml", tmp_path / "data.conllu")
    assert find_task(Path("~/tasks/mine.yaml")) == task


def test_a_name_that_no_file_system_takes_is_no_task() -> None:
    for name in ("x" * 5000, "a\0b", "a\0b.yaml"):
        with pytest.raises(UsageError, match=r"found no such"):
            find_task(name)


def test_texts_without_labels_may_be_in_any_language_that_a_code_names(tmp_path: Path) -> None:
    (tmp_path / "text.tsv").write_text("words\nSaluton\n", encoding="utf-8")
    text = f"""\
{TEXT_HEAD}data:
  format: tsv
  columns: {{text: words}}
  languages:
    en: {{train: text.tsv}}
    CODE: {{train: text.tsv}}
"""
    path = tmp_path / "text.yaml"
    path.write_text(text.replace("CODE", "eo"), encoding="utf-8")
    assert list(find_task(str(path)).data.languages) == ["en", "eo"]
    path.write_text(text.replace("CODE", "'esper anto'"), encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        find_task(str(path))
    accepted = "accepted the code of a language, such as en"
    assert str(refused.value) == f"{path}:17: data.languages.esper anto: found 'esper anto', {accepted}"
