"""Recipes in files of their own: where they lie, what `tune` writes, and what stands in a task's YAML beside them."""

import os
import shutil
import string
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_stilts.errors import UsageError
from adapter_stilts.recipe_schema import RecipeFile, Search, StoredRecipe, StoredTrial
from adapter_stilts.schema import Recipe
from adapter_stilts.strict_yaml import load_yaml
from adapter_stilts.tasks.catalog import all_tasks, find_task
from adapter_stilts.tasks.recipe_files import check_room, read_recipes, recipe_path, text_of, write_recipe

CONFIGS = Path(__file__).parents[2] / "task_configs"
TASK = """\
# mine
name: mine
version: 1
kind: tagging
role: target
knowledge: syntactic
granularity: token
description: words   # a comment
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
labels: ["A",   B]
data:
  dataset: nobody/mine
  columns: {tokens: tokens, labels: tags}
  languages:
    en: en   # English
"""
SEARCH = Search(
    over={"learning_rate": "0.0005 to 0.016", "rank": "4, 8"},
    pieces=5000,
    epochs=3,
    seeds=(0, 2),
    metric="f1",
    trials=(
        StoredTrial(set={"learning_rate": 5e-4, "rank": 8}, development=(10.0, 20.0)),
        StoredTrial(set={"learning_rate": 1e-5, "rank": 4}, development=(31.25, 20.5)),
    ),
    date="2026-11-27",
    command="adapter-stilts tune mine --method lora --trials 2",
)
TUNED = StoredRecipe(set=Recipe(learning_rate=1e-5, epochs=3, rank=4), tuning=SEARCH)
SENTENCE = (
    "best of 2 trials over learning_rate 0.0005 to 0.016; rank 4, 8 (5000 English pieces, 3 epochs, seeds 0, 2: "
    "development f1 25.9, 20.5 to 31.2)"
)
WRITTEN = """\
task: mine
recipes:
  lora:
    embedded:
      set: {learning_rate: 1.0e-05, epochs: 3, rank: 4}
      tuning:
        over: {learning_rate: 0.0005 to 0.016, rank: '4, 8'}
        pieces: 5000
        epochs: 3
        seeds: [0, 2]
        metric: f1
        trials:
        - set: {learning_rate: 0.0005, rank: 8}
          development: [10.0, 20.0]
        - set: {learning_rate: 1.0e-05, rank: 4}
          development: [31.25, 20.5]
        date: 2026-11-27
        command: adapter-stilts tune mine --method lora --trials 2
"""


def mine(folder: Path, recipes: str = "", name: str = "mine") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(TASK + recipes, encoding="utf-8")
    return path


def beside(path: Path, recipes: str, task: str = "mine") -> Path:
    recipe_file = path.with_name(f"{path.stem}.recipes.yaml")
    recipe_file.write_text(f"task: {task}\nrecipes:\n{recipes}", encoding="utf-8")
    return recipe_file


def test_a_recipe_is_written_beside_the_task_and_read_with_it(tmp_path: Path) -> None:
    path = mine(tmp_path)
    recipe_file = write_recipe(find_task(str(path)), "lora", "embedded", TUNED, path)
    assert recipe_file == tmp_path / "mine.recipes.yaml"
    lines = recipe_file.read_text(encoding="utf-8").splitlines(keepends=True)
    assert lines[0] == "# Written by `adapter-stilts tune`, which writes it anew: comments do not stay.\n"
    assert "".join(lines[2:]) == WRITTEN
    assert path.read_text(encoding="utf-8") == TASK
    expected = Recipe(learning_rate=1e-5, epochs=3, rank=4, tuning=SENTENCE)
    assert find_task(str(path)).recipes == {"lora": {"embedded": expected}}
    # Another backbone and method stand beside it; the same backbone, however it is written, in its place.
    plain = StoredRecipe(set=Recipe(batch_tokens=512, batch_examples=None), tuning="by hand")
    for method, backbone in (("lora", "tiny"), ("full", "default"), ("lora", "./tiny/"), ("lora", "embedded")):
        write_recipe(find_task(str(path)), method, backbone, plain, path)  # type: ignore[arg-type]
    recipe = Recipe(batch_tokens=512, batch_examples=None, tuning="by hand")
    assert find_task(str(path)).recipes == {"lora": {"embedded": recipe, "./tiny": recipe}, "full": {"default": recipe}}
    assert "./tiny: &" not in recipe_file.read_text(encoding="utf-8")
    assert "    ./tiny:\n      set: {learning_rate: 0.0001, batch_tokens: 512}\n" in recipe_file.read_text(
        encoding="utf-8"
    )


def test_the_earliest_of_equal_trials_is_told_of() -> None:
    assert SEARCH.text == SENTENCE
    equal = SEARCH.model_copy(update={"trials": (SEARCH.trials[0], SEARCH.trials[0]), "seeds": (7, 8), "pieces": None})
    assert equal.text.endswith("(all English examples, 3 epochs, seeds 7, 8: development f1 15.0, 10.0 to 20.0)")
    one = StoredTrial(set={"rank": 4}, development=(12.34,))
    single = equal.model_copy(update={"trials": (one,), "seeds": (7,), "examples": 30})
    assert single.text.endswith("(30 English examples, 3 epochs, seed 7: development f1 12.3)")


def test_recipes_of_a_task_s_yaml_and_of_its_file_stand_beside_each_other(tmp_path: Path) -> None:
    path = mine(tmp_path, "recipes:\n  full:\n    default: {epochs: 7}\n    ./tiny: {epochs: 8}\n")
    beside(path, "  full:\n    embedded: {set: {epochs: 9}}\n  head: {default: {set: {}, tuning: not tuned yet}}\n")
    assert find_task(str(path)).recipes == {
        "full": {"default": Recipe(epochs=7), "./tiny": Recipe(epochs=8), "embedded": Recipe(epochs=9)},
        "head": {"default": Recipe(tuning="not tuned yet")},
    }
    # A file that changes, comes or goes is noticed.
    recipe_file = beside(path, "  full: {embedded: {set: {epochs: 10}}}\n")
    assert find_task(str(path)).recipes["full"]["embedded"].epochs == 10
    recipe_file.unlink()
    assert set(find_task(str(path)).recipes["full"]) == {"default", "./tiny"}


def test_two_recipes_for_one_method_and_backbone_are_refused(tmp_path: Path) -> None:
    path = mine(tmp_path, "recipes:\n  full:\n    ./tiny: {epochs: 8}\n")
    recipe_file = beside(path, "  full:\n    embedded: {set: {}}\n    ./tiny/: {set: {epochs: 9}}\n")
    with pytest.raises(UsageError) as refused:
        find_task(str(path))
    assert str(refused.value) == (
        f"{path}:21: recipes.full../tiny: found a recipe here and in {recipe_file}:5, accepted one of the two"
    )
    check_room(path, "full", "embedded")
    with pytest.raises(UsageError) as refused:
        check_room(path, "full", "tiny")
    assert str(refused.value) == (
        f"{path}:21: recipes.full../tiny: found a recipe, accepted none where `tune` writes one ({recipe_file}): "
        "remove it here first"
    )


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ("  full: {embedded: {set: {epochs: 0}}}\n", ":3: recipes.full.embedded.set.epochs: found 0, accepted greater"),
        ("  full: {embeded: {set: {}}}\n", ":3: recipes.full.embeded: found 'embeded' (did you mean 'embedded'?), "),
        (
            "  full: {embedded: {set: {}, epochs: 3}}\n",
            ":3: recipes.full.embedded.epochs: found an unknown key, accepted set, ",
        ),
        ("  ful: {embedded: {set: {}}}\n", ":3: recipes.ful: found 'ful' (did you mean 'full'?), accepted 'bott"),
        (
            "  full:\n    embedded:\n      set: {tuning: mine}\n",
            ":4: recipes.full.embedded: found `tuning` inside of `set`, accepted `tuning` beside `set`",
        ),
        (
            "  full:\n    embedded:\n      set: {}\n      tuning: {over: {rank: '4'}, epochs: 1, seeds: [0, 1], "
            "metric: f1, trials: [{set: {rank: 4}, development: [1.0]}]}\n",
            ":6: recipes.full.embedded.tuning: found a trial with 1 scores, accepted one for each of 2 seeds",
        ),
    ],
)
def test_what_is_wrong_in_a_recipe_file_is_said_with_its_line(tmp_path: Path, recipes: str, message: str) -> None:
    path = mine(tmp_path)
    recipe_file = beside(path, recipes)
    with pytest.raises(UsageError) as refused:
        find_task(str(path))
    assert str(refused.value).startswith(f"{recipe_file}{message}"), str(refused.value)


def test_a_recipe_file_belongs_to_its_task(tmp_path: Path) -> None:
    path = mine(tmp_path)
    recipe_file = beside(path, "  full: {embedded: {set: {}}}\n", task="other")
    with pytest.raises(UsageError) as refused:
        find_task(str(path))
    assert str(refused.value) == f"{recipe_file}:1: task: found other, accepted mine (this file belongs to that task)"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_called_a_recipe_file_and_is_none_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = mine(tmp_path)
    make(tmp_path / "mine.recipes.yaml")
    with pytest.raises(UsageError, match=r"/mine\.recipes\.yaml: found no file \(a folder, a pipe, or a link to noth"):
        find_task(str(path))


def test_a_shipped_task_is_copied_with_its_recipes(tmp_path: Path) -> None:
    out, shipped = tmp_path / "copy.yaml", find_task("embedded_semtag")
    before = {path: path.read_bytes() for path in sorted((CONFIGS / "recipes").iterdir())}
    recipe_file = write_recipe(shipped, "full", "embedded", TUNED, out)
    assert recipe_file == tmp_path / "copy.recipes.yaml"
    assert out.read_bytes() == shipped.path.read_bytes()
    copy = find_task(str(out))
    assert copy.recipes == {
        "bottleneck": shipped.recipes["bottleneck"],
        "full": {"default": shipped.recipes["full"]["default"], "embedded": TUNED.recipe},
    }
    assert {path: path.read_bytes() for path in sorted((CONFIGS / "recipes").iterdir())} == before


def test_every_shipped_recipe_file_is_of_a_task_and_as_it_would_be_written() -> None:
    tasks = {task.name: task for task in all_tasks()}
    paths = sorted(path for path in (CONFIGS / "recipes").glob("*.yaml") if path.stem != "defaults")
    # Without a file of its own a task has its kind's recipes.
    assert tasks.keys() - {path.stem for path in paths} == {"commonsenseqa", "copa", "xcopa"}
    for path in paths:
        assert recipe_path(tasks[path.stem].path) == path
        stored = read_recipes(path, path.stem)
        written, lines = text_of(stored), path.read_text(encoding="utf-8").splitlines()
        # The first line says whose they are.
        assert lines[1:] == written.splitlines()[1:], path


def test_through_a_link_the_recipe_lies_beside_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path, link = mine(tmp_path / "real"), tmp_path / "link.yaml"
    link.symlink_to(path)
    assert write_recipe(find_task(str(link)), "full", "embedded", TUNED, link) == tmp_path / "real/mine.recipes.yaml"
    assert find_task(str(link)).recipes == {"full": {"embedded": TUNED.recipe}}


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    path = mine(tmp_path)
    with pytest.raises(UsageError, match=r"^--out: .*/mine.yaml/copy.yaml cannot be written \("):
        write_recipe(find_task(str(path)), "full", "embedded", TUNED, path / "copy.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_two_searches_that_end_together_keep_each_other_s_recipe(tmp_path: Path) -> None:
    path = mine(tmp_path)
    task = find_task(str(path))
    backbones = [f"./b{number}" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda backbone: write_recipe(task, "full", backbone, TUNED, path), backbones))
    assert sorted(find_task(str(path)).recipes["full"]) == sorted(backbones)


@pytest.mark.parametrize("attempt", range(5))
def test_searches_that_end_together_keep_each_other_s_recipe_in_a_new_copy(tmp_path: Path, attempt: int) -> None:
    """Whichever makes the copy, the shipped recipes are in it once and no written one is lost."""
    out, shipped = tmp_path / "copy.yaml", find_task("embedded_semtag")
    backbones = [f"./b{number}" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda backbone: write_recipe(shipped, "full", backbone, TUNED, out), backbones))
    assert sorted(find_task(str(out)).recipes["full"]) == sorted([*shipped.recipes["full"], *backbones])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.recipes.yaml", "copy.yaml"]


def test_a_recipe_file_without_its_task_is_kept(tmp_path: Path) -> None:
    out, shipped = tmp_path / "copy.yaml", find_task("embedded_semtag")
    write_recipe(shipped, "full", "./mine", TUNED, out)
    recipes = find_task(str(out)).recipes
    out.unlink()
    write_recipe(shipped, "lora", "./mine", TUNED, out)
    assert find_task(str(out)).recipes == {**recipes, "lora": {"./mine": TUNED.recipe}}
    out.unlink()
    beside(out, "  full: {embedded: {set: {}}}\n", task="another")
    with pytest.raises(UsageError, match=r"task: found another, accepted embedded_semtag"):
        write_recipe(shipped, "lora", "./mine", TUNED, out)
    assert not out.exists()


TEXT = st.text(string.printable + "äß木 ", max_size=40)
RECIPES = st.builds(
    StoredRecipe,
    set=st.builds(
        Recipe,
        learning_rate=st.floats(1e-12, 1e12),
        epochs=st.integers(1, 1000),
        warmup=st.floats(0, 1),
        batch_tokens=st.none(),
        layers=st.sampled_from([None, "6", "6-11", "0,2"]),
        targets=st.sampled_from([None, ("query", "value")]),
        merge_weights=st.sampled_from([None, (0.5, 1e-7)]),
    ),
    tuning=st.none() | TEXT | st.builds(lambda text: SEARCH.model_copy(update={"command": text}), TEXT),
)


@settings(max_examples=60, deadline=None)
@given(recipe=RECIPES)
def test_what_is_written_reads_back_the_same(tmp_path_factory: pytest.TempPathFactory, recipe: StoredRecipe) -> None:
    path = tmp_path_factory.mktemp("recipes") / "x.yaml"
    stored = RecipeFile(task="mine", recipes={"full": {"embedded": recipe}})
    path.write_text(text_of(stored), encoding="utf-8", newline="")
    assert load_yaml(path, RecipeFile) == stored
    shutil.rmtree(path.parent)


def test_a_text_that_looks_like_a_number_stays_a_text() -> None:
    search = SEARCH.model_copy(update={"over": {"learning_rate": "1e-3"}, "command": "no"})
    stored = RecipeFile(task="1e5", recipes={"full": {"embedded": StoredRecipe(set=Recipe(), tuning=search)}})
    text = text_of(stored)
    assert "task: '1e5'" in text
    assert "over: {learning_rate: '1e-3'}" in text
    assert yaml.safe_load(text)["task"] == "1e5"
