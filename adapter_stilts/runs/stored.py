"""JSON that a run leaves: strict models with a seal, and one reader whose complaints name file and key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from adapter_stilts.errors import StiltsError
from adapter_stilts.files import atomic_write_text
from adapter_stilts.trust import Sha256, parse_json, read_text


class Stored(BaseModel):
    """Base of what is stored as JSON: strict, so that a damaged or newer file is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Sealed(Stored):
    """A file of its own. `seal` is the SHA-256 of everything else in it, as canonical JSON.

    Files from before `sealed_format` have none and are read as they are.
    """

    sealed_format: ClassVar[int]
    format: int
    seal: Sha256 | None = None


StoredType = TypeVar("StoredType", bound=Stored)
SealedType = TypeVar("SealedType", bound=Sealed)


def content_seal(content: Mapping[str, Any]) -> str:
    """The seal of a file's content."""
    rest = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def write_sealed(path: Path, stored: SealedType) -> SealedType:
    """Write the file, or replace it as a whole, with its seal; returns what it says then."""
    stored = stored.model_copy(update={"format": stored.sealed_format, "seal": None})
    sealed = stored.model_copy(update={"seal": content_seal(json.loads(stored.model_dump_json()))})
    atomic_write_text(path, sealed.model_dump_json(indent=2) + "\n")
    return sealed


def first_problem(error: ValidationError) -> str:
    """Key and reason of the first thing that is wrong. What is said of several keys together names them itself."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" and not key:
        return message
    return f"{key or 'JSON'}: {message}"


def read_stored(path: Path, model: type[StoredType]) -> StoredType:
    """The content of a JSON file. Raises StiltsError, one line with file and key, where it is missing, damaged, or its
    seal is broken."""
    text = read_text(path)
    content = parse_json(path, text)
    try:
        stored = model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise StiltsError(f"{path}: {first_problem(error)}") from None
    if isinstance(stored, Sealed):
        if stored.seal is None and stored.format >= stored.sealed_format:
            raise StiltsError(f"{path}: seal: found none, accepted that of format {stored.format}")
        if stored.seal is not None and stored.seal != content_seal(content):
            raise StiltsError(f"{path}: altered since it was written (its seal differs)")
    return stored
