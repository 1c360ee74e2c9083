"""How backbones are named: on the command line, in studies, and as keys of recipes. Loads nothing heavy."""

from __future__ import annotations

import re
from pathlib import Path

from adapter_stilts.paths import user_path
from adapter_stilts.yaml_complaints import did_you_mean

EMBEDDED = "embedded"
DEFAULT_BACKBONE = "FacebookAI/xlm-roberta-large"
# The key of a recipe for every backbone that has none of its own.
DEFAULT_KEY = "default"
KNOWN = (EMBEDDED, DEFAULT_BACKBONE, "FacebookAI/xlm-roberta-base")
ACCEPTED = "embedded, an id such as owner/name, or a folder's path (./name in the working directory)"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_path(name: str) -> bool:
    """Whether a name can only be a folder's."""
    return name.startswith(("/", "./", "../", "~")) or name in (".", "..") or name.count("/") > 1


def is_backbone_name(name: str) -> bool:
    """Whether a name has the form of a backbone's: embedded, owner/name, or a path."""
    return name == EMBEDDED or is_path(name) or _HUB_ID.fullmatch(name) is not None


def hint(name: str, *others: str) -> str:
    """' (did you mean ...?)' with the nearest name of a backbone, or of the `others`; a Hub id without its owner is
    near to the whole one."""
    whole = {known.rpartition("/")[2]: known for known in KNOWN}
    near = did_you_mean(name, [*others, *whole, *KNOWN])
    short = re.search("'(.*)'", near)
    return near.replace(f"'{short[1]}'", f"'{whole.get(short[1], short[1])}'") if short else ""


def recipe_key(backbone: str) -> str:
    """The key of a backbone's recipes: a folder that was given by its bare name is a path there."""
    return backbone if backbone == DEFAULT_KEY or is_backbone_name(backbone) else f"./{backbone}"


def same_backbone(key: str, backbone: str) -> bool:
    """Whether a recipe's key is that of the backbone, however a path is written."""
    return key == backbone or _normal(key) == _normal(backbone)


def portable_name(backbone: str) -> str:
    """What may leave the machine of a backbone's name: a Hub id as it is, of a folder its own name alone."""
    local = is_path(backbone) or not is_backbone_name(backbone) or user_path(backbone).is_dir()
    return user_path(backbone).resolve().name if local and backbone != EMBEDDED else backbone


def _normal(name: str) -> str:
    return str(Path(user_path(name)))
