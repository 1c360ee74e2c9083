"""The language table against the benchmarks' counts, their data, and values known from the papers."""

import unicodedata
from collections import Counter
from itertools import chain
from pathlib import Path

import pyarrow.parquet
import pytest

from adapter_stilts.errors import UsageError
from adapter_stilts.languages import LANGUAGE_LISTS, LANGUAGES, Language, language

# Number of languages of each task: XTREME table 1 and XTREME-R table 2 (tatoeba and bucc without the English side).
XTREME_COUNTS = {
    "udpos": 33,
    "panx": 40,
    "xnli": 15,
    "pawsx": 7,
    "xquad": 11,
    "mlqa": 7,
    "tydiqa": 9,
    "tatoeba": 36,
    "bucc": 4,
}
XTREME_R_COUNTS = {
    "udpos": 38,
    "panx": 48,
    "xnli": 15,
    "xquad": 12,
    "mlqa": 7,
    "tydiqa": 9,
    "xcopa": 11,
    "tatoeba": 41,
    "mewslix": 11,
    "lareqa": 11,
}


def test_lists_have_the_papers_counts_and_no_repetition():
    assert {task: len(codes) for task, codes in LANGUAGE_LISTS["xtreme"].items()} == XTREME_COUNTS
    assert {task: len(codes) for task, codes in LANGUAGE_LISTS["xtreme-r"].items()} == XTREME_R_COUNTS
    for lists in LANGUAGE_LISTS.values():
        for task, codes in lists.items():
            assert len(set(codes)) == len(codes), task


def test_what_xtreme_r_added():
    old, new = LANGUAGE_LISTS["xtreme"], LANGUAGE_LISTS["xtreme-r"]
    added = {task: set(new[task]) - set(old[task]) for task in new.keys() & old.keys()}
    assert added == {
        "udpos": {"lt", "pl", "ro", "uk", "wo"},
        "panx": {"az", "gu", "lt", "pa", "pl", "qu", "ro", "uk"},
        "tatoeba": {"az", "lt", "pl", "ro", "uk"},
        "xquad": {"ro"},
        "xnli": set(),
        "mlqa": set(),
        "tydiqa": set(),
    }
    assert all(set(old[task]) <= set(new[task]) for task in added)


def test_the_fifty_languages_are_those_of_the_lists():
    listed = set(chain.from_iterable(chain.from_iterable(lists.values()) for lists in LANGUAGE_LISTS.values()))
    assert listed == set(LANGUAGES)
    assert len(LANGUAGES) == 50  # XTREME-R's title figure: 50 languages
    assert all(code == entry.code for code, entry in LANGUAGES.items())
    assert len({entry.name for entry in LANGUAGES.values()}) == 50


def test_families_have_the_papers_members():
    members: dict[str, set[str]] = {}
    for entry in LANGUAGES.values():
        members.setdefault(entry.family, set()).add(entry.code)
    assert members == {
        "Afro-Asiatic": {"ar", "he"},
        "Austro-Asiatic": {"vi"},
        "Austronesian": {"id", "jv", "ms", "tl"},
        "Basque": {"eu"},
        "Creole": {"ht"},
        "Dravidian": {"ml", "ta", "te"},
        "IE: Baltic": {"lt"},
        "IE: Germanic": {"af", "de", "en", "nl"},
        "IE: Greek": {"el"},
        "IE: Indo-Aryan": {"bn", "gu", "hi", "mr", "pa", "ur"},
        "IE: Iranian": {"fa"},
        "IE: Romance": {"es", "fr", "it", "pt", "ro"},
        "IE: Slavic": {"bg", "pl", "ru", "uk"},
        "Japonic": {"ja"},
        "Kartvelian": {"ka"},
        "Koreanic": {"ko"},
        "Kra-Dai": {"th"},
        "Niger-Congo": {"sw", "wo", "yo"},
        "Quechuan": {"qu"},
        "Sino-Tibetan": {"my", "zh"},
        "Turkic": {"az", "kk", "tr"},
        "Uralic": {"et", "fi", "hu"},
    }


def test_language_gives_the_entry():
    assert language("wo") == Language("wo", "Wolof", "Niger-Congo", "Latin")
    assert language("ur") == Language("ur", "Urdu", "IE: Indo-Aryan", "Arabic")


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("German", "did you mean 'de' (German)? "),
        ("Germna", "did you mean 'de' (German)? "),
        ("zho", "did you mean 'zh' (Chinese)? "),
        ("EN", "did you mean 'en' (English)? "),
        ("klingon", ""),
    ],
)
def test_unknown_code_names_the_nearest(wrong, hint):
    with pytest.raises(UsageError) as failure:
        language(wrong)
    assert str(failure.value) == f"unknown language '{wrong}': {hint}known are {' '.join(LANGUAGES)}"
    assert failure.value.exit_code == 2


def _commonest_script(file: Path) -> str:
    sentences = pyarrow.parquet.read_table(file, columns=["tokens"])["tokens"].to_pylist()[:200]
    letters = filter(str.isalpha, chain.from_iterable(chain.from_iterable(sentences)))
    counts = Counter(unicodedata.name(letter, "?").split()[0] for letter in letters)
    commonest = counts.most_common(1)[0][0]
    if commonest in ("CJK", "KATAKANA", "HIRAGANA"):
        return "Japanese" if counts["KATAKANA"] + counts["HIRAGANA"] > counts["CJK"] / 2 else "Han"
    return commonest.capitalize()


def test_scripts_and_names_are_those_of_the_data(hub_mirror):
    xtreme = hub_mirror / "google" / "xtreme"
    scripts = {
        folder.name.removeprefix("PAN-X."): _commonest_script(min(folder.rglob("*.parquet")))
        for folder in xtreme.glob("PAN-X.*")
    }
    thai = _commonest_script(min((xtreme / "udpos.Thai").rglob("*.parquet")))
    assert len(scripts) == 47
    assert scripts | {"th": thai} == {code: LANGUAGES[code].script for code in [*scripts, "th"]}
    treebanks = {folder.name.removeprefix("udpos.") for folder in xtreme.glob("udpos.*")}
    assert treebanks == {LANGUAGES[code].name for code in LANGUAGE_LISTS["xtreme"]["udpos"]}
