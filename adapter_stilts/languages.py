"""The languages of XTREME and XTREME-R: code, name, family, script, and which task is tested in which of them.

Codes, lists and task names are those of the benchmarks (Hu et al. 2020, https://arxiv.org/abs/2003.11080; Ruder et al.
2021, https://arxiv.org/abs/2104.07412; `evaluate.py` of google-research/xtreme). Families stand at the one level of the
papers' tables: the branch for Indo-European (`IE: Germanic`), the family for all others. The script is the one that the
benchmarks' texts are written in, by its English name; `Japanese` is kanji and kana together, as in ISO 15924.
"""

import difflib
from dataclasses import dataclass

from adapter_stilts.errors import UsageError


@dataclass(frozen=True)
class Language:
    """One language: its benchmark code (ISO 639-1), English name, family and script."""

    code: str
    name: str
    family: str
    script: str


_TABLE = (
    Language("af", "Afrikaans", "IE: Germanic", "Latin"),
    Language("ar", "Arabic", "Afro-Asiatic", "Arabic"),
    Language("az", "Azerbaijani", "Turkic", "Latin"),
    Language("bg", "Bulgarian", "IE: Slavic", "Cyrillic"),
    Language("bn", "Bengali", "IE: Indo-Aryan", "Bengali"),
    Language("de", "German", "IE: Germanic", "Latin"),
    Language("el", "Greek", "IE: Greek", "Greek"),
    Language("en", "English", "IE: Germanic", "Latin"),
    Language("es", "Spanish", "IE: Romance", "Latin"),
    Language("et", "Estonian", "Uralic", "Latin"),
    Language("eu", "Basque", "Basque", "Latin"),
    Language("fa", "Persian", "IE: Iranian", "Arabic"),
    Language("fi", "Finnish", "Uralic", "Latin"),
    Language("fr", "French", "IE: Romance", "Latin"),
    Language("gu", "Gujarati", "IE: Indo-Aryan", "Gujarati"),
    Language("he", "Hebrew", "Afro-Asiatic", "Hebrew"),
    Language("hi", "Hindi", "IE: Indo-Aryan", "Devanagari"),
    Language("ht", "Haitian Creole", "Creole", "Latin"),
    Language("hu", "Hungarian", "Uralic", "Latin"),
    Language("id", "Indonesian", "Austronesian", "Latin"),
    Language("it", "Italian", "IE: Romance", "Latin"),
    Language("ja", "Japanese", "Japonic", "Japanese"),
    Language("jv", "Javanese", "Austronesian", "Latin"),
    Language("ka", "Georgian", "Kartvelian", "Georgian"),
    Language("kk", "Kazakh", "Turkic", "Cyrillic"),
    Language("ko", "Korean", "Koreanic", "Hangul"),
    Language("lt", "Lithuanian", "IE: Baltic", "Latin"),
    Language("ml", "Malayalam", "Dravidian", "Malayalam"),
    Language("mr", "Marathi", "IE: Indo-Aryan", "Devanagari"),
    Language("ms", "Malay", "Austronesian", "Latin"),
    Language("my", "Burmese", "Sino-Tibetan", "Myanmar"),
    Language("nl", "Dutch", "IE: Germanic", "Latin"),
    Language("pa", "Punjabi", "IE: Indo-Aryan", "Gurmukhi"),
    Language("pl", "Polish", "IE: Slavic", "Latin"),
    Language("pt", "Portuguese", "IE: Romance", "Latin"),
    Language("qu", "Quechua", "Quechuan", "Latin"),
    Language("ro", "Romanian", "IE: Romance", "Latin"),
    Language("ru", "Russian", "IE: Slavic", "Cyrillic"),
    Language("sw", "Swahili", "Niger-Congo", "Latin"),
    Language("ta", "Tamil", "Dravidian", "Tamil"),
    Language("te", "Telugu", "Dravidian", "Telugu"),
    Language("th", "Thai", "Kra-Dai", "Thai"),
    Language("tl", "Tagalog", "Austronesian", "Latin"),
    Language("tr", "Turkish", "Turkic", "Latin"),
    Language("uk", "Ukrainian", "IE: Slavic", "Cyrillic"),
    Language("ur", "Urdu", "IE: Indo-Aryan", "Arabic"),
    Language("vi", "Vietnamese", "Austro-Asiatic", "Latin"),
    Language("wo", "Wolof", "Niger-Congo", "Latin"),
    Language("yo", "Yoruba", "Niger-Congo", "Latin"),
    Language("zh", "Chinese", "Sino-Tibetan", "Han"),
)

LANGUAGES: dict[str, Language] = {language.code: language for language in _TABLE}


def _codes(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _without(codes: tuple[str, ...], absent: str) -> tuple[str, ...]:
    return tuple(code for code in codes if code not in absent.split())


_XNLI = _codes("ar bg de el en es fr hi ru sw th tr ur vi zh")
_UDPOS = _codes(
    "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko lt mr nl pl pt ro ru ta te th tl tr uk ur vi wo yo zh"
)
_PANX = _codes(
    "af ar az bg bn de el en es et eu fa fi fr gu he hi hu id it ja jv ka kk ko lt ml mr ms my nl pa pl pt qu ro ru sw"
    " ta te th tl tr uk ur vi yo zh"
)
_XQUAD = _codes("ar de el en es hi ro ru th tr vi zh")
_MLQA = _codes("ar de en es hi vi zh")
_TYDIQA = _codes("ar bn en fi id ko ru sw te")
_TATOEBA = _codes(
    "ar he vi id jv tl eu ml ta te af nl de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw zh kk tr et fi hu az lt"
    " pl uk ro"
)

LANGUAGE_LISTS: dict[str, dict[str, tuple[str, ...]]] = {
    "xtreme": {
        "udpos": _without(_UDPOS, "lt pl ro uk wo"),
        "panx": _without(_PANX, "az gu lt pa pl qu ro uk"),
        "xnli": _XNLI,
        "pawsx": _codes("de en es fr ja ko zh"),
        "xquad": _without(_XQUAD, "ro"),
        "mlqa": _MLQA,
        "tydiqa": _TYDIQA,
        "tatoeba": _without(_TATOEBA, "az lt pl ro uk"),
        "bucc": _codes("de fr ru zh"),
    },
    "xtreme-r": {
        "udpos": _UDPOS,
        "panx": _PANX,
        "xnli": _XNLI,
        "xquad": _XQUAD,
        "mlqa": _MLQA,
        "tydiqa": _TYDIQA,
        "xcopa": _codes("et ht id it qu sw ta th tr vi zh"),
        "tatoeba": _TATOEBA,
        "mewslix": _codes("ar de en es fa ja pl ro ta tr uk"),
        "lareqa": _codes("ar de el en es hi ru th tr vi zh"),
    },
}
"""benchmark -> task -> codes. `bucc` and `tatoeba` pair each language with English, which therefore is not listed."""


def language(code: str) -> Language:
    """The language with this benchmark code.

    Raises `UsageError` for an unknown code, with the known codes nearest to it in spelling or by name.
    """
    if code in LANGUAGES:
        return LANGUAGES[code]
    near = _nearest(code)
    hint = "did you mean " + ", ".join(f"'{other.code}' ({other.name})" for other in near) + "? " if near else ""
    raise UsageError(f"unknown language '{code}': {hint}known are {' '.join(LANGUAGES)}")


def _nearest(text: str) -> list[Language]:
    """Up to three languages whose code or name looks like the text, nearest first."""
    # The code stands last in the dictionary so that it wins over a name of the same spelling.
    spellings = {known.name.lower(): known for known in _TABLE} | {known.code: known for known in _TABLE}
    if text.lower() in spellings:
        return [spellings[text.lower()]]
    matches = difflib.get_close_matches(text.lower(), spellings, n=3, cutoff=0.6)
    return list(dict.fromkeys(spellings[match] for match in matches))
