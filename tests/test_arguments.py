"""What the Python API takes: values as they are, one for several, and one line for what it cannot take."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapter_stilts import arguments
from adapter_stilts.errors import UsageError


def test_settings_are_what_would_be_typed() -> None:
    given = {"epochs": 2, "learning_rate": 1e-3, "fusion_null": False, "alpha": None, "targets": ["query", "value"]}
    given |= {"rank": np.int64(4), "mlm_task": Path("mine.yaml"), "layers": "6-11"}
    assert arguments.settings_of("settings", given) == {
        "epochs": "2",
        "learning_rate": "0.001",
        "fusion_null": "false",
        "alpha": "null",
        "targets": "query,value",
        "rank": "4",
        "mlm_task": "mine.yaml",
        "layers": "6-11",
    }
    assert arguments.settings_of("settings", None) == {}


def test_languages_are_codes_not_letters() -> None:
    codes = [arguments.language_codes("--languages", value) for value in ("de", "de, ar", ["de"], ("de", "ar"), None)]
    assert codes == [["de"], ["de", "ar"], ["de"], ["de", "ar"], None]


def test_one_is_a_list_of_one() -> None:
    assert arguments.listed("--over", "ud_deprel", (str, Path), "") == ["ud_deprel"]
    assert arguments.listed("--over", Path("a.yaml"), (str, Path), "") == [Path("a.yaml")]
    assert arguments.listed("--over", (letter for letter in "ab"), (str, Path), "") == ["a", "b"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            ("settings_of", "settings", "epochs=2"),
            "settings: found 'epochs=2', accepted a mapping such as {'epochs': 2}",
        ),
        (
            ("settings_of", "settings", {"epochs": {}}),
            "settings['epochs']: found {}, accepted text, a number, True or ",
        ),
        (("settings_of", "settings", {1: 2}), "settings[1]: found 2, accepted text, a number, "),
        (
            ("language_codes", "--languages", ","),
            "--languages: found ',', accepted codes with commas between, such as ",
        ),
        (("language_codes", "--languages", ["de", 5]), "--languages: found ['de', 5], accepted codes with commas "),
        (
            ("language_codes", "--languages", 5),
            "--languages: found 5, accepted codes with commas between, such as de,ar",
        ),
        (("listed", "--over", [5], (str,), "runs"), "--over: found 5, accepted runs"),
        (("listed", "--over", {"a": 1}, (str,), "runs"), "--over: found {'a': 1}, accepted runs"),
        (("whole_number", "--limit", "5"), "--limit: found '5', accepted a whole number of at least 0"),
        (("whole_number", "--limit", True), "--limit: found true, accepted a whole number of at least 0"),
        (("whole_number", "--limit", 2.0), "--limit: found 2.0, accepted a whole number of at least 0"),
        (("whole_number", "--limit", 0, 1), "--limit: found 0, accepted a whole number of at least 1"),
        (("seed_of", "--seed", -1), "--seed: found -1, accepted a whole number from 0 to 4294967295"),
        (("seed_of", "--seed", None), "--seed: found null, accepted a whole number from 0 to 4294967295"),
        (("path_of", "--out", 3), "--out: found 3, accepted a path"),
        (("choice", "keep", "some", ("all",)), "keep: found 'some', accepted: all"),
        (("kind", "--device", 0, (str,), "text"), "--device: found 0, accepted text"),
    ],
)
def test_the_rest_is_refused_in_a_line(call: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        getattr(arguments, call[0])(*call[1:])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
