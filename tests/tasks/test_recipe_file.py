"""A recipe is written into a task's file on its own line, and nothing else in the file moves."""

import difflib
import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_stilts.backbone_names import recipe_key
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.schema import Recipe
from adapter_stilts.strict_yaml import Loader
from adapter_stilts.tasks import recipe_file
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.recipe_file import write_recipe

CONFIGS = Path(__file__).parents[2] / "task_configs"
SHIPPED = sorted(path.stem for role in ("intermediate", "target") for path in (CONFIGS / role).glob("*.yaml"))

HEAD = """\
# mine
name: mine
version: 1
kind: tagging
role: target
knowledge: syntactic
granularity: token
description: words   # a comment
licence: none
citation: |
  @none{mine}

metrics: [accuracy]
selection_metric: accuracy
labels: ["A",   B]
data:
  dataset: nobody/mine
  columns: {tokens: tokens, labels: tags}
  languages:
    en: en   # English
"""
TUNED = Recipe(learning_rate=4e-3, epochs=7, tuning='best of 5: "lr" # 400')
LINE = r'{learning_rate: 4e-3, epochs: 7, tuning: "best of 5: \"lr\" # 400"}'


def rewritten(
    folder: Path, recipes: str, method: str = "bottleneck", backbone: str = "embedded", recipe: Recipe = TUNED
) -> str:
    """What stands after HEAD in a file of HEAD and `recipes` once the recipe is written; HEAD is checked."""
    path = folder / "mine.yaml"
    path.write_bytes((HEAD + recipes).encode())
    task = find_task(str(path))
    write_recipe(task, method, backbone, recipe, path)
    expected: dict[str, dict[str, Recipe]] = {name: dict(entries) for name, entries in task.recipes.items()}
    expected.setdefault(method, {})[recipe_key(backbone)] = recipe
    assert find_task(str(path)).recipes == expected
    text = path.read_bytes().decode()
    assert text.startswith(HEAD)
    assert [entry.name for entry in folder.iterdir()] == ["mine.yaml"]
    return text.removeprefix(HEAD)


CASES = {
    "flow value": (
        "recipes:\n  bottleneck:\n    embedded: {epochs: 3}  # by hand\n    # below\n",
        f"recipes:\n  bottleneck:\n    embedded: {LINE}  # by hand\n    # below\n",
    ),
    "flow value over lines": (
        "recipes:\n  bottleneck:\n    embedded:\n      {epochs: 3,\n       clip: 2}\n  # end",
        f"recipes:\n  bottleneck:\n    embedded:\n      {LINE}\n  # end",
    ),
    "block value": (
        "recipes:\n  bottleneck:\n    embedded:  # why\n      # more\n      epochs: 3  # three\n      # within\n"
        "      clip: 2  # two\n\n    # of default\n    default: {}\n",
        f"recipes:\n  bottleneck:\n    embedded: {LINE}  # why\n      # more\n\n    # of default\n    default: {{}}\n",
    ),
    "block value without final newline": (
        "recipes:\n  bottleneck:\n    embedded:\n        epochs: 3",
        f"recipes:\n  bottleneck:\n    embedded: {LINE}",
    ),
    "block scalar last": (
        "recipes:\n  bottleneck:\n    embedded:\n      tuning: |\n        one\n        two\n\n\n# end\n",
        f"recipes:\n  bottleneck:\n    embedded: {LINE}\n\n\n# end\n",
    ),
    "kept block scalar last": (
        "recipes:\n  bottleneck:\n    embedded:\n      tuning: |+\n        one\n\n\n    default: {}\n",
        f"recipes:\n  bottleneck:\n    embedded: {LINE}\n    default: {{}}\n",
    ),
    "anchored block value": (
        "recipes:\n  bottleneck:\n    'embedded' : &unused  # why\n      epochs: 3\n",
        f"recipes:\n  bottleneck:\n    'embedded' : {LINE} # why\n",
    ),
    "alias": (
        "recipes:\n  bottleneck:\n    default: &x {epochs: 3}\n    embedded: *x  # same\n",
        f"recipes:\n  bottleneck:\n    default: &x {{epochs: 3}}\n    embedded: {LINE}  # same\n",
    ),
    "merge key within": (
        "recipes:\n  bottleneck:\n    default: &x {epochs: 3}\n    embedded:\n      <<: *x\n      clip: 2\n",
        f"recipes:\n  bottleneck:\n    default: &x {{epochs: 3}}\n    embedded: {LINE}\n",
    ),
    "new backbone, block": (
        "recipes:\n  bottleneck:\n      default:\n        epochs: 3  # three\n\n  # the other\n  full: {}\n",
        f"recipes:\n  bottleneck:\n      default:\n        epochs: 3  # three\n      embedded: {LINE}\n\n"
        "  # the other\n  full: {}\n",
    ),
    "new backbone, after an alias": (
        "recipes:\n  full:\n    default: &x {epochs: 3}\n  bottleneck:\n    default: *x # same",
        "recipes:\n  full:\n    default: &x {epochs: 3}\n  bottleneck:\n    default: *x # same\n"
        f"    embedded: {LINE}",
    ),
    "new backbone over a merged one": (
        "recipes:\n  full: &f\n    embedded: {epochs: 3}\n  bottleneck:\n    <<: *f\n",
        f"recipes:\n  full: &f\n    embedded: {{epochs: 3}}\n  bottleneck:\n    <<: *f\n    embedded: {LINE}\n",
    ),
    "new backbone, flow": (
        "recipes:\n  bottleneck: {default: {epochs: 3}, }  # one\n  full: {}\n",
        f"recipes:\n  bottleneck: {{default: {{epochs: 3}}, embedded: {LINE}, }}  # one\n  full: {{}}\n",
    ),
    "new backbone, empty flow": (
        "recipes:\n  bottleneck: {}\n",
        f"recipes:\n  bottleneck: {{embedded: {LINE}}}\n",
    ),
    "new method, block": (
        "recipes:\n  full:\n    default: {}  # all\n# end\n",
        f"recipes:\n  full:\n    default: {{}}  # all\n  bottleneck:\n    embedded: {LINE}\n# end\n",
    ),
    "new method, flow": (
        'recipes: {"full":{"default":{}}}\n',
        f'recipes: {{"full":{{"default":{{}}}}, bottleneck: {{embedded: {LINE}}}}}\n',
    ),
    "new method, empty flow": ("recipes: {}", f"recipes: {{bottleneck: {{embedded: {LINE}}}}}"),
    "no recipes": ("# end\n", f"# end\nrecipes:\n  bottleneck:\n    embedded: {LINE}\n"),
    "no recipes, no final newline": ("# end", f"# end\nrecipes:\n  bottleneck:\n    embedded: {LINE}\n"),
    "no recipes, document end": ("...\n# end\n", f"recipes:\n  bottleneck:\n    embedded: {LINE}\n...\n# end\n"),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_only_the_entry_changes(tmp_path: Path, before: str, after: str) -> None:
    assert rewritten(tmp_path, before) == after


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_windows_line_ends_and_byte_order_mark_stay(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + before).replace("\n", "\r\n").encode())
    write_recipe(find_task(str(path)), "bottleneck", "embedded", TUNED, path)
    assert path.read_bytes() == b"\xef\xbb\xbf" + (HEAD + after).replace("\n", "\r\n").encode()
    assert find_task(str(path)).recipes["bottleneck"]["embedded"] == TUNED


def test_whole_task_in_flow_style(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = (
        "{name: mine, version: 1, kind: tagging, role: target, knowledge: syntactic, granularity: token,\n"
        " description: w, licence: n, citation: n, metrics: [accuracy],\n"
        " data: {dataset: a/b, columns: {tokens: t, labels: l}, languages: {en: en}},\n"
        " selection_metric: accuracy # last\n}\n"
    )
    path.write_text(text)
    write_recipe(find_task(str(path)), "full", "embedded", Recipe(), path)
    added = ", recipes: {full: {embedded: {learning_rate: 1e-4}}} # last"
    assert path.read_text() == text.replace(" # last", added)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("backbone", ["embedded", "default", "someone/new-model"])
@pytest.mark.parametrize("method", ["bottleneck", "full"])
def test_shipped_tasks_change_in_one_line(name: str, method: str, backbone: str, tmp_path: Path) -> None:
    task, out = find_task(name), tmp_path / f"{name}.yaml"
    write_recipe(task, method, backbone, TUNED, out)
    old, new = (path.read_text(encoding="utf-8").splitlines(keepends=True) for path in (task.path, out))
    changes = [line for line in difflib.ndiff(old, new) if line[0] in "+-"]
    above = ["+ recipes:\n"] * (not task.recipes) + [f"+   {method}:\n"] * (method not in task.recipes)
    replaced = backbone in task.recipes.get(method, {})  # type: ignore[call-overload]
    assert [line for line in changes if line[0] == "+"] == [*above, f"+     {backbone}: {LINE}\n"]
    assert [line.split(":")[0] for line in changes if line[0] == "-"] == [f"-     {backbone}"] * replaced
    # A second writing finds its own line, and changes nothing.
    again = find_task(str(out))
    written = out.read_bytes()
    write_recipe(again, method, backbone, TUNED, out)
    assert out.read_bytes() == written
    expected = task.model_dump()
    expected["recipes"].setdefault(method, {})[backbone] = TUNED.model_dump()
    assert again.model_dump() == expected


@pytest.mark.parametrize("name", ["udpos", "chunking", "snli_devtest"])
def test_shipped_tasks_without_a_method(name: str, tmp_path: Path) -> None:
    text = find_task(name).path.read_text(encoding="utf-8")
    kept = text[: text.index("\n  full:\n") + 1]
    (tmp_path / "less.yaml").write_text(kept, encoding="utf-8")
    write_recipe(find_task(str(tmp_path / "less.yaml")), "full", "embedded", TUNED, tmp_path / "more.yaml")
    more = (tmp_path / "more.yaml").read_text(encoding="utf-8")
    assert more.startswith(kept)
    assert more.removeprefix(kept) == f"  full:\n    embedded: {LINE}\n"


@pytest.mark.parametrize(
    ("backbone", "key"),
    [
        ("FacebookAI/xlm-roberta-large", "FacebookAI/xlm-roberta-large"),
        ("/models/a b: c #1", '"/models/a b: c #1"'),
        ("C:\\models", '"./C:\\\\models"'),
        ("./here", '"./here"'),
        ("null", '"./null"'),
        ("1e5", '"./1e5"'),
        ("日本 語", '"./日本 語"'),
    ],
)
def test_backbone_keys(tmp_path: Path, backbone: str, key: str) -> None:
    before = "recipes:\n  full: {}\n  bottleneck:\n    default: {}\n"
    assert rewritten(tmp_path, before, backbone=backbone) == f"{before}    {key}: {LINE}\n"
    assert rewritten(tmp_path, before, "full", backbone) == before.replace("full: {}", f"full: {{{key}: {LINE}}}")


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (Recipe(), "{learning_rate: 1e-4}"),
        (Recipe(learning_rate=2.5e-5, weight_decay=0.01), "{learning_rate: 2.5e-5, weight_decay: 0.01}"),
        (Recipe(learning_rate=0.05, clip=5e6, reduction=16.0), "{learning_rate: 0.05, clip: 5e6, reduction: 16}"),
        (Recipe(batch_tokens=2048), "{learning_rate: 1e-4, batch_tokens: 2048}"),
        (Recipe(batch_examples=16, warmup=0), "{learning_rate: 1e-4, batch_examples: 16, warmup: 0}"),
        (Recipe(tuning="a\nb\u2028c"), r'{learning_rate: 1e-4, tuning: "a\nb\Lc"}'),
        (Recipe(selection="best"), "{learning_rate: 1e-4, selection: best}"),
        (Recipe(tuning="plain"), '{learning_rate: 1e-4, tuning: "plain"}'),
    ],
)
def test_recipe_lines(tmp_path: Path, recipe: Recipe, line: str) -> None:
    assert rewritten(tmp_path, "", recipe=recipe) == f"recipes:\n  bottleneck:\n    embedded: {line}\n"


def test_values_of_any_kind() -> None:
    values = {"a": ("query", "w: x"), "b": (0.7, 3.0), "c": "6-11", "d": False, "e": None, "f": "no", "g": "6"}
    text = '{a: [query, "w: x"], b: [0.7, 3], c: 6-11, d: false, e: null, f: no, g: "6"}'
    assert recipe_file._shown(values) == text
    assert yaml.load(text, Loader=Loader) == {**values, "a": ["query", "w: x"], "b": [0.7, 3.0]}


@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(1e-300, 1e300),
    backbone=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    tuning=st.text(st.sampled_from(string.printable + "é\x85\u2028\ufeff😀"), max_size=200),
)
def test_any_number_and_text_reads_back(
    tmp_path_factory: pytest.TempPathFactory, rate: float, backbone: str, tuning: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    recipe = Recipe(learning_rate=rate, tuning=tuning)
    rewritten(folder, "recipes: {full: {}}\n", backbone=backbone, recipe=recipe)
    assert find_task(str(folder / "mine.yaml")).recipes == {"full": {}, "bottleneck": {recipe_key(backbone): recipe}}


SHARED = {
    "the entry's anchor": (
        "recipes:\n  bottleneck:\n    embedded: &x {epochs: 3}\n    default: *x\n",
        r":23: recipes.bottleneck.embedded: found an anchor \(&\) that line 24 shares, accepted a recipe that nothing",
    ),
    "the method's anchor": (
        "recipes:\n  bottleneck: &x\n    default: {epochs: 3}\n  full: *x\n",
        r":22: recipes.bottleneck.embedded: found an anchor \(&\) that line 24 shares",
    ),
    "the method's alias": (
        "recipes:\n  full: &x\n    default: {epochs: 3}\n  bottleneck: *x\n",
        r":24: recipes.bottleneck: found an alias \(\*\) of what another place holds, accepted a mapping of its own",
    ),
}


@pytest.mark.parametrize(("recipes", "message"), SHARED.values(), ids=SHARED)
def test_shared_recipes_are_refused(tmp_path: Path, recipes: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD + recipes)
    with pytest.raises(UsageError, match=rf"mine\.yaml{message}"):
        write_recipe(find_task(str(path)), "bottleneck", "embedded", TUNED, path)
    assert path.read_text() == HEAD + recipes


def test_an_anchor_whose_sharer_has_its_own_entry_is_no_obstacle(tmp_path: Path) -> None:
    before = "recipes:\n  bottleneck: &x\n    default: {}\n  full: {<<: *x, embedded: {epochs: 2}}\n"
    after = before.replace("default: {}\n", f"default: {{}}\n    embedded: {LINE}\n")
    assert rewritten(tmp_path, before) == after


def test_what_would_change_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = HEAD.replace("description: words   # a comment\n", "") + "description: |\n  no line end here"
    path.write_text(text)
    message = r"recipes.full.embedded: found no way to write the recipe \(description would read back changed\)"
    with pytest.raises(StiltsError, match=message):
        write_recipe(find_task(str(path)), "full", "embedded", TUNED, path)
    assert path.read_text() == text


def test_a_recipe_that_does_not_read_back_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD)
    monkeypatch.setattr(recipe_file, "_fields", lambda recipe: {"learning_rate": 0.5})
    with pytest.raises(StiltsError, match=r"\(recipes would read back changed\)"):
        write_recipe(find_task(str(path)), "full", "embedded", TUNED, path)
    with pytest.raises(
        StiltsError, match=r"mine\.yaml:\d+: recipes\.magic\.embedded: .* \(recipes\.magic: found 'magic'"
    ):
        write_recipe(find_task(str(path)), "magic", "embedded", TUNED, path)
    assert path.read_text() == HEAD


def test_out(tmp_path: Path) -> None:
    path, out = tmp_path / "mine.yaml", tmp_path / "other" / "copy.yaml"
    path.write_text(HEAD)
    task = find_task(str(path))
    for rate in (1e-3, 2e-3):  # the second overwrites the first
        write_recipe(task, "full", "embedded", Recipe(learning_rate=rate), out)
        assert out.read_text() == f"{HEAD}recipes:\n  full:\n    embedded: {{learning_rate: {rate * 1000:.0f}e-3}}\n"
    assert path.read_text() == HEAD
    for content, found in (
        (HEAD.replace("name: mine", "name: yours"), r"found task yours in .*copy\.yaml"),
        ("notes\n", r"found a file that is no task \(.*copy\.yaml:1: found no mapping"),
    ):
        out.write_text(content)
        with pytest.raises(UsageError, match=rf"^--out: {found}.*, accepted a new file, or one that holds task mine$"):
            write_recipe(task, "full", "embedded", TUNED, out)
        assert out.read_text() == content
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^--out: .*copy\.yaml cannot be written \(.*\), accepted a writable place$"):
        write_recipe(task, "full", "embedded", TUNED, tmp_path / "file" / "copy.yaml")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "mine.yaml", tmp_path / "link.yaml"
    path.write_text(HEAD)
    link.symlink_to(path)
    write_recipe(find_task(str(link)), "full", "embedded", Recipe(), link)
    assert link.is_symlink()
    assert path.read_text() == f"{HEAD}recipes:\n  full:\n    embedded: {{learning_rate: 1e-4}}\n"


def test_local_data_keep_the_copy_beside_the_original(tmp_path: Path) -> None:
    (tmp_path / "train.conllu").write_text("1\ta\t_\tA\t_\t_\t0\t_\t_\t_\n")
    local = HEAD.replace("dataset: nobody/mine", "format: conllu").replace("tokens: tokens, labels: tags", "%")
    local = local.replace("%", "tokens: form, labels: upos")
    path, away = tmp_path / "mine.yaml", tmp_path / "other" / "mine.yaml"
    path.write_text(local.replace("en: en ", "en: {train: train.conllu} "))
    with pytest.raises(UsageError, match=r"^--out: found .*, accepted a file in .*: data\.languages\.en\.train is"):
        write_recipe(find_task(str(path)), "full", "embedded", TUNED, away)
    assert not away.parent.exists()
    write_recipe(find_task(str(path)), "full", "embedded", TUNED, tmp_path / "tuned.yaml")
    assert find_task(str(tmp_path / "tuned.yaml")).recipes["full"]["embedded"] == TUNED
    # An absolute path is found from anywhere.
    path.write_text(local.replace("en: en ", f"en: {{train: {tmp_path / 'train.conllu'}}} "))
    write_recipe(find_task(str(path)), "full", "embedded", TUNED, away)
    assert find_task(str(away)).recipes["full"]["embedded"] == TUNED


def test_embedded_data_leave_the_copy_free(tmp_path: Path) -> None:
    out = tmp_path / "embedded_semtag.yaml"
    write_recipe(find_task("embedded_semtag"), "full", "embedded", Recipe(learning_rate=1e-3), out)
    copy = find_task(str(out))
    assert copy.recipes["full"]["embedded"].learning_rate == 1e-3
    assert copy.file(copy.data.languages["en"].train) == CONFIGS.parent / "adapter_stilts/embedded_data/en-train.conllu"
