"""Hundreds of damaged YAML files and command lines, in this process: a result, or lines that say where and what.

A YAML that is accepted has to be the task that a second reader of the same text describes; a command ends with exit
code 0 and something on standard output, or with 1 or 2 and a reason on standard error, never with a traceback.
"""

import json
import random
import re
from pathlib import Path

import pytest
import yaml
from support.cli import command, make_cli_workspace, on_tiny, yaml_of
from support.training import Workspace

from adapter_stilts.errors import UsageError
from adapter_stilts.tasks.catalog import find_task

pytestmark = pytest.mark.slow

TASK = """\
name: mine
version: 1
kind: tagging
role: target
knowledge: syntactic
granularity: token
description: My treebank.
licence: CC0
citation: none
metrics: [accuracy]
selection_metric: accuracy
train_language: en
labels: open
word_piece: first_content
recipes:
  bottleneck:
    default: {learning_rate: 0.001, epochs: 2, batch_examples: 16}
    embedded: {learning_rate: 4e-3, epochs: 3, batch_tokens: 1024}
  lora:
    default: {rank: 4, targets: [query, value], layers: 0-5}
data:
  format: conllu
  columns: {tokens: form, labels: upos}
  languages:
    en: {train: en.conllu, validation: en.conllu, test: en.conllu}
    de: {test: de.conllu}
"""
VALUES = (
    "[]", "{}", "[a, b]", "{a: 1}", "-1", "0", "1e999", ".nan", "true", "null", "''", "~", "'x'", "1.5", "9" * 400,
    "&a [*a]", "*nothing", "!!python/object:os.system {}", "2026-11-31", "no", "[", "}", "0-99999999999", "../../x",
)  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for code in ("en", "de"):
        (tmp_path / f"{code}.conllu").write_text("1\tHaus\t_\tNOUN\t_\t_\t0\troot\t_\t_\n\n", encoding="utf-8")
    return tmp_path


def damaged(text: str, chance: random.Random) -> str:
    """The text with one thing changed: a value, a key, a line, or a few characters."""
    lines = text.splitlines()
    at = chance.randrange(len(lines))
    change = chance.choice(("value", "value", "value", "key", "drop", "double", "indent", "character"))
    if change == "value":
        lines[at] = re.sub(r":.*", lambda _: ": " + chance.choice(VALUES), lines[at], count=1)
    elif change == "key":
        lines[at] = re.sub(r"[a-z]", lambda _: chance.choice(LETTERS), lines[at], count=1)
    elif change == "drop":
        del lines[at]
    elif change == "double":
        lines.insert(at, lines[at])
    elif change == "indent":
        lines[at] = " " * chance.randint(0, 7) + lines[at].lstrip()
    else:
        column = chance.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:column] + chance.choice("\t\0:#'\"{}[]&*!|>%@`\u0085\u202e\x1b") + lines[at][column:]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("part", range(4))
def test_damaged_yaml(files: Path, part: int) -> None:
    for seed in range(100 * part, 100 * part + 100):
        path = files / "mine.yaml"
        text = damaged(TASK, random.Random(seed))
        path.write_text(text, encoding="utf-8")
        try:
            task = find_task(str(path))
        except UsageError as error:
            lines = str(error).splitlines()
            assert lines
            for line in lines:
                assert re.match(re.escape(str(path)) + r":\d+", line), (seed, line)
                assert re.search(r"found|unknown", line), (seed, line)
                assert len(line) < 1_500, (seed, line)
        else:
            content = yaml.safe_load(text)
            said = task.model_dump(mode="json", exclude_unset=True)
            for key in ("name", "version", "kind", "role", "description", "licence", "train_language", "metrics"):
                if key in content and not isinstance(content[key], bool):
                    assert said[key] == content[key], (seed, key)
            assert list(said["data"]["languages"]) == list(content["data"]["languages"]), seed


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_cli_workspace(tmp_path_factory.mktemp("commands"), monkeypatch)


WORDS = (
    *("", " ", "-", "--", "nothing", "../..", "/dev/null", "0", "-1", "1e9", "nan", "de", "de,en", ",", "tags"),
    *("tags@random", "tags@x", "a+b", "+", "@", "x" * 300, "ünï", "\x1b[31m", "[red]", "stack", "fuse", "full", "lora"),
    *("KEY", "epochs=0", "epochs=1e12", "layers=0-99999999999", "rank=1000000000", "targets=[query", "a=b=c"),
    *("learning_rate=!!int x", "reduction=1e-9", "tuning=", "merge_weights=1", "*.yaml", "~nobody/x", "test", "cuda"),
)
TRAIN = (
    "--over --compose --method --seed --limit --match-tokens --languages --control --set --precision --step --compile"
)
OPTIONS = {
    "tasks": ("--role", "--json"),
    "train": (*TRAIN.split(), "--device", "--hub-mirror"),
    "evaluate": ("--languages", "--split", "--limit", "--keep", "--device", "--hub-mirror", "--task"),
    "predict": ("--format", "--columns", "--device", "--hub-mirror"),
    "compare": ("--split", "--limit", "--json", "--markdown"),
    "data check": ("--minimum", "--skip", "--varied", "--parallel", "--json", "--format"),
    "study plan": ("--hub-mirror", "--device"),
}
FLAGS = {"--json", "--markdown", "--varied", "--parallel"}


@pytest.mark.parametrize("name", OPTIONS)
def test_command_lines(workspace: Workspace, name: str) -> None:
    """Nothing of these trains: a first word that is no task, or an option whose value is refused, stops them."""
    for seed in range(40):
        chance = random.Random(f"{name} {seed}")
        typed = name.split()
        if name != "tasks" and chance.random() < 0.9:
            typed.append(chance.choice(WORDS))
        if name == "predict":
            typed.append(chance.choice(WORDS))
        if name == "train" and chance.random() < 0.5:
            # A sound task beside a setting that no training has.
            typed = ["train", yaml_of(workspace), *on_tiny(workspace), "--set", "no_such_setting=1"]
        for option in chance.sample(OPTIONS[name], k=chance.randint(0, 2)):
            typed += [option] if option in FLAGS else [option, chance.choice(WORDS)]
        assert_result_or_reason(typed)


def assert_result_or_reason(typed: list[str]) -> None:
    result = command(*typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), (typed, result.exception)
    assert result.exit_code in (0, 1, 2), typed
    assert "Traceback" not in result.output, typed
    if result.exit_code:
        assert result.stderr.strip(), typed
        assert "\x1b" not in result.stderr, typed
    else:
        assert result.stdout.strip(), typed
        if "--json" in typed:
            json.loads(result.stdout)
