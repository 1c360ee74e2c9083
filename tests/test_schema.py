"""Every complaint about a YAML file names its line and key; overrides follow YAML's rules and the field's type."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapter_stilts.errors import ConfigError, UsageError
from adapter_stilts.schema import Recipe, Task, layer_numbers, override, setting_text
from adapter_stilts.strict_yaml import load_yaml, location_text
from adapter_stilts.study_schema import Study
from adapter_stilts.tasks.kinds.contract import WordPieceOptions
from adapter_stilts.yaml_complaints import complaints_of

TASK = """\
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
labels: [NO, "ON", y]
data:
  dataset: some/thing
  columns: {tokens: tokens, labels: tags}
  languages:
    en: english
    no: {config: norwegian, revision: "2.17"}
recipes:
  full:
    default:
      learning_rate: 1e-3
      epochs: 2
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaints(folder: Path, text: str) -> list[str]:
    path = written(folder, text)
    with pytest.raises(UsageError) as error:
        load_yaml(path, Task)
    return [line.removeprefix(str(path)) for line in str(error.value).split("\n")]


def test_values(tmp_path: Path) -> None:
    task = load_yaml(written(tmp_path, TASK), Task)
    assert task.labels == ("NO", "ON", "y")  # YAML 1.1 would read two truth values
    assert list(task.data.languages) == ["en", "no"]
    assert task.data.languages["en"].config == "english"
    assert task.data.languages["no"].revision == "2.17"
    assert task.data.splits == {"train": "train", "validation": "validation", "test": "test"}
    recipe = task.recipes["full"]["default"]
    assert (recipe.learning_rate, recipe.epochs, recipe.batch_examples, recipe.batch_tokens) == (1e-3, 2, 32, None)
    assert (task.options, task.train_language, task.development_share) == (WordPieceOptions(), "en", None)
    assert WordPieceOptions().word_piece == "first_content"


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        (
            "licence: none",
            "license: none",
            ":8: license: found an unknown key (did you mean 'licence'?), accepted name, ",
        ),
        (
            "  columns:",
            "  colums:",
            ":15: data.colums: found an unknown key (did you mean 'columns'?), accepted dataset",
        ),
        ("config: norw", "cfg: norw", ":18: data.languages.no.cfg: found an unknown key (did you mean 'config'?), acc"),
        (
            "      epochs",
            "      epoch",
            ":23: recipes.full.default.epoch: found an unknown key (did you mean 'epochs'?)",
        ),
        ("version: 1", "version: one", ":2: version: found 'one', accepted a whole number"),
        ("version: 1", "version: true", ":2: version: found true, accepted a whole number"),
        (
            "role: target",
            "role: tgt",
            ":4: role: found 'tgt' (did you mean 'target'?), accepted 'intermediate', 'target' or 'both'",
        ),
        ("[NO, ", "[3, ", ':12: labels[0]: found 3, accepted text, in quotes: "3"'),
        (
            'labels: [NO, "ON", y]',
            "labels: opne",
            ":12: labels: found 'opne' (did you mean 'open'?), accepted a list such as [a, b] or 'open'",
        ),
        ('"2.17"', "2.17", ':18: data.languages.no.revision: found 2.17, accepted text, in quotes: "2.17"'),
        ("1e-3", "fast", ":22: recipes.full.default.learning_rate: found 'fast', accepted a number"),
        ("1e-3", "0", ":22: recipes.full.default.learning_rate: found 0, accepted greater than 0"),
        ("1e-3", ".nan", ":22: recipes.full.default.learning_rate: found nan, accepted a finite number"),
        (
            "  full:",
            "  ful:",
            ":20: recipes.ful: found 'ful' (did you mean 'full'?), accepted 'bottleneck', 'lora', 'dora', 'ia3', ",
        ),
        ("description: words\n", "", ":1: description: found nothing, accepted a value (this key is required)"),
        ("  columns: {tokens: tokens, labels: tags}\n", "", ":13: data.columns: found nothing, accepted a value"),
        ("kind: tagging", "name: again", ":3: name: found twice (also line 1), accepted once"),
        ("    no: {", "    en: {", ":18: data.languages.en: found twice (also line 17), accepted once"),
        ("columns: {tokens: tokens, labels: tags}", "columns: {tokens: tokens", ":16: found broken YAML ("),
        ("licence: none", "licence: !!python/name:os.system", ":8: found broken YAML (could not determine a construct"),
        (
            "      epochs: 2",
            "      batch_examples: null",
            ":21: recipes.full.default: found neither, accepted exactly one",
        ),
        (
            "      epochs: 2",
            "      batch_examples: 8\n      batch_tokens: 99",
            ":21: recipes.full.default: found both, accepted exactly one of batch_examples, batch_tokens",
        ),
    ],
)
def test_complaint_names_line_and_key(tmp_path: Path, old: str, new: str, start: str) -> None:
    assert TASK.count(old) == 1
    assert start in [line[: len(start)] for line in complaints(tmp_path, TASK.replace(old, new))]


def test_no_mapping_and_no_file(tmp_path: Path) -> None:
    assert complaints(tmp_path, "")[0].startswith(
        ":1: found an empty file, accepted a mapping with the keys name, version"
    )
    assert complaints(tmp_path, "- a\n")[0].startswith(":1: found no mapping, accepted a mapping")
    with pytest.raises(
        UsageError, match=r"absent\.yaml: found No such file or directory, accepted a readable YAML file"
    ):
        load_yaml(tmp_path / "absent.yaml", Task)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(UsageError, match=r"latin\.yaml: found bytes that are not UTF-8"):
        load_yaml(tmp_path / "latin.yaml", Task)


def test_recursive_alias_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    assert complaints(tmp_path, "name: &a [*a]\n")[0].startswith(":1: ")


def test_location_text_stops_at_what_the_file_holds(tmp_path: Path) -> None:
    path = written(tmp_path, TASK)
    assert location_text(path, ("data", "languages", "no", "revision")) == f"{path}:18: data.languages.no.revision"
    assert location_text(path, ("data", "languages", "xx")) == f"{path}:16: data.languages.xx"


def test_override() -> None:
    changed = override(Recipe(), {"learning_rate": "1e-3", "epochs": "7", "adapter": "houlsby", "warmup": "0"})
    assert changed == Recipe(learning_rate=1e-3, epochs=7, adapter="houlsby", warmup=0.0)
    by_tokens = override(Recipe(), {"batch_tokens": "1024"})
    assert (by_tokens.batch_tokens, by_tokens.batch_examples) == (1024, None)
    assert override(by_tokens, {"batch_examples": "16"}) == Recipe(batch_examples=16)
    assert override(Recipe(tuning="x"), {"tuning": "12"}).tuning == "12"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "learning_rat",
            "1",
            "--set learning_rat: found an unknown key (did you mean 'learning_rate'?), accepted learning",
        ),
        ("learning_rate", "fast", "--set learning_rate: found 'fast', accepted a number"),
        ("epochs", "2.5", "--set epochs: found 2.5, accepted a whole number"),
        ("epochs", "[", "--set epochs: found '[', accepted a whole number"),
        ("selection", "first", "--set selection: found 'first', accepted 'last' or 'best'"),
        ("dropout", "1", "--set dropout: found 1, accepted less than 1"),
        (
            "batch_examples",
            "null",
            "--set batch_examples: found neither, accepted exactly one of batch_examples, batch_tok",
        ),
    ],
)
def test_override_names_the_key(key: str, value: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        override(Recipe(), {key: value})
    assert str(error.value)[: len(message)] == message


def test_lists_and_layers_as_typed() -> None:
    typed = {"targets": "query,value", "merge_weights": "0.7,0.3", "layers": "0,9-11", "rank": "4"}
    changed = override(Recipe(), typed)
    assert (changed.targets, changed.merge_weights, changed.rank) == (("query", "value"), (0.7, 0.3), 4)
    assert layer_numbers(changed.layers or "") == (0, 9, 10, 11)
    assert override(Recipe(), {"layers": "6", "merge_weights": "1"}).merge_weights == (1.0,)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("rank", "0", "--set rank: found 0, accepted greater than or equal to 1"),
        ("layers", "11-6", "--set layers: found '11-6', accepted layers counted from 0, such as 6-11 or 0,2,9-11"),
        ("merge_weights", "a", "--set merge_weights: found 'a', accepted a number"),
        (
            "adapter",
            "huolsby",
            "--set adapter: found 'huolsby' (did you mean 'houlsby'?), accepted 'pfeiffer', 'houlsby', 'parallel' or "
            "'compacter'",
        ),
        ("mlm_share", "1", "--set mlm_share: found 1, accepted less than 1"),
    ],
)
def test_new_fields_refuse(key: str, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        override(Recipe(), {key: text})
    assert str(caught.value) == message


def test_all_that_is_wrong_is_said_at_once_by_line(tmp_path: Path) -> None:
    text = TASK.replace("version: 1", "version: one").replace("licence: none", "license: none")
    text = text.replace("1e-3", "fast").replace("epochs: 2", "epochs: 0").replace("    no: {", "    en: {")
    assert [line.partition(",")[0] for line in complaints(tmp_path, text)] == [
        ":2: version: found 'one'",
        ":8: license: found an unknown key (did you mean 'licence'?)",  # and no word of a missing licence
        ":18: data.languages.en: found twice (also line 17)",
        ":22: recipes.full.default.learning_rate: found 'fast'",
        ":23: recipes.full.default.epochs: found 0",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("version: 1", "version: 1.5", ":2: version: found 1.5, accepted a whole number"),
        ("version: 1", "version: null", ":2: version: found null, accepted a whole number"),
        (
            "name: mine",
            "name: my task",
            ":1: name: found 'my task', accepted a name of letters, digits, _ . and -, of w",
        ),
        ("[accuracy]", "[]", ":10: metrics: found [], accepted a list of 1 or more"),
        ("[accuracy]", "accuracy", ":10: metrics: found 'accuracy', accepted a list such as [a, b]"),
        (
            "labels: [NO,",
            "label_until: ''\nlabels: [NO,",
            ":12: label_until: found '', accepted text that is not empty",
        ),
        (
            "{tokens: tokens, labels: tags}",
            "[tokens]",
            ":15: data.columns: found ['tokens'], accepted a mapping such as ",
        ),
        ("tokens: tokens,", "1: tokens,", ":15: data.columns[1]: found 1, accepted text, in quotes"),
        ("tokens: tokens,", "tokens: {a: b},", ":15: data.columns.tokens: found {'a': 'b'}, accepted text or a whole"),
        ("tokens: tokens,", "tokens: [1],", ':15: data.columns.tokens[0]: found 1, accepted text, in quotes: "1"'),
        (
            "en: english",
            "en: [english]",
            ":17: data.languages.en: found ['english'], accepted a mapping with the keys d",
        ),
        (
            "en: english",
            "en: {filter: {x: [{}]}}",
            ":17: data.languages.en.filter.x[0]: found {}, accepted text or a wh",
        ),
        ("epochs: 2", "fusion_null: 3", ":23: recipes.full.default.fusion_null: found 3, accepted true or false"),
        (
            "epochs: 2",
            "epochs: 1000000000000",
            ":23: recipes.full.default.epochs: found 1000000000000, accepted less th",
        ),
        (
            "epochs: 2",
            "layers: 0-99999999999",
            ":23: recipes.full.default.layers: found '0-99999999999', accepted layer",
        ),
        ("epochs: 2", f"epochs: 0x{'f' * 5000}", ":23: found broken YAML (a number of too many digits), accepted YAML"),
        ("epochs: 2", f"epochs: {'9' * 5000}", ":23: found broken YAML (no value of type int), accepted YAML"),
        ("epochs: 2", "epochs: !!int x", ":23: found broken YAML (no value of type int), accepted YAML"),
        ("epochs: 2", "epochs: !!bool x", ":23: found broken YAML (no value of type bool), accepted YAML"),
        ("epochs: 2", "epochs: !!timestamp x", ":23: found broken YAML (no value of type timestamp), accepted YAML"),
        (
            "epochs: 2",
            'tuning: "\\ud800"',
            ":23: found broken YAML (half a character (\\ud800-\\udfff)), accepted YAML",
        ),
        ("epochs: 2", "? [a]\n      : 2", ":23: found broken YAML (found unhashable key), accepted YAML"),
        ("epochs: 2", "epochs: " + "[" * 5000, ":23: found broken YAML (nested too deep), accepted YAML"),
    ],
)
def test_complaints_say_what_yaml_takes(tmp_path: Path, old: str, new: str, line: str) -> None:
    (complaint,) = complaints(tmp_path, TASK.replace(old, new))
    if "nested" in line:  # nobody counts lines at such a depth
        complaint = re.sub(r"^:\d+:", ":23:", complaint)
    assert complaint[: len(line)] == line


def test_no_word_of_pydantic_is_in_a_complaint(tmp_path: Path) -> None:
    """Each field of a task, a recipe and a study under values of every other kind."""
    words = (
        "valid ",
        "Input",
        "should",
        "instance",
        "tuple",
        "dictionary",
        "after validation",
        "integer",
        "None",
        "True",
    )
    values = [None, True, 3, -1, 0.5, float("nan"), "", "x y", [], [[1]], {}, {"a": {}}, {1: 2}, 10**40]
    seen = 0
    for model in (Task, Recipe, Study):
        for key in model.model_fields:
            for value in values:
                try:
                    model.model_validate({key: value})
                except ValidationError as error:
                    for location, what in complaints_of(error, model, {key: value}):
                        seen += 1
                        assert re.match("found .+, accepted .+", what), (key, value, what)
                        assert not [word for word in words if word in what], (location, value, what)
    assert seen > 500


def test_aliases_that_multiply_are_refused_at_once(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    (line,) = complaints(tmp_path, bomb)
    assert line.endswith("found aliases (*) that stand for more than 1,000,000 values, accepted fewer")
    merges = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
    assert "aliases (*) that stand for" in complaints(tmp_path, merges)[0]


def test_more_complaints_than_anybody_reads_are_counted(tmp_path: Path) -> None:
    lines = complaints(tmp_path, TASK.replace('[NO, "ON", y]', f"[{'1, ' * 99}1]"))
    assert (len(lines), lines[-1]) == (51, "and 50 more")


def test_override_says_all_at_once_and_takes_no_tracebacks() -> None:
    texts = {"epoch": "1", "rank": "x", "targets": "[query", "learning_rate": "9" * 5000, "tuning": "\udcff"}
    with pytest.raises(ConfigError) as caught:
        override(Recipe(), texts)
    assert [line.partition(", accepted")[0] for line in caught.value.lines] == [
        "--set epoch: found an unknown key (did you mean 'epochs'?)",
        "--set tuning: found '\\udcff'",
        "--set learning_rate: found '999999999999999999999999999...9999999999999999999999999999'",
        "--set rank: found 'x'",
    ]


def test_settings_as_typed() -> None:
    values = (None, True, 2, 0.5, "a", ["query", "value"], (0.7, 0.3))
    assert [setting_text(value) for value in values] == ["null", "true", "2", "0.5", "a", "query,value", "0.7,0.3"]
