"""How a backbone may be named, and what a name that is none is taken for."""

from pathlib import Path

import pytest

from adapter_stilts.backbone_names import hint, is_backbone_name, portable_name, recipe_key, same_backbone


@pytest.mark.parametrize(
    "name", ["embedded", "FacebookAI/xlm-roberta-base", "me/x.1_2", "/a/b", "./tiny", "~/tiny", "a/b/c"]
)
def test_names(name: str) -> None:
    assert is_backbone_name(name)
    assert recipe_key(name) == name


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("embeded", " (did you mean 'embedded'?)"),
        ("xlm-roberta-large", " (did you mean 'FacebookAI/xlm-roberta-large'?)"),
        ("xlmroberta-base", " (did you mean 'FacebookAI/xlm-roberta-base'?)"),
        ("zzz", ""),
    ],
)
def test_what_is_no_name_gets_the_nearest(name: str, suggestion: str) -> None:
    assert not is_backbone_name(name)
    assert hint(name) == suggestion
    assert recipe_key(name) == f"./{name}"


def test_a_path_is_the_same_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert same_backbone("./tiny", "tiny")
    assert same_backbone("~/tiny", "/home/me/tiny")
    assert not same_backbone("./tiny", "tiny2")


def test_of_a_folder_its_own_name_alone_leaves_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    names = ["embedded", "FacebookAI/xlm-roberta-base", f"{tmp_path}/tiny/", "../x/tiny", "owner/name", "tiny"]
    assert list(map(portable_name, names)) == [
        "embedded",
        "FacebookAI/xlm-roberta-base",
        "tiny",
        "tiny",
        "name",
        "tiny",
    ]
