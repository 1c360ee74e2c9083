"""JSON that a run leaves: strict models, and one reader whose complaints name file and key."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from adapter_stilts.errors import StiltsError
from adapter_stilts.files import read_regular


class Stored(BaseModel):
    """Base of what is stored as JSON: strict, so that a damaged or newer file is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


StoredType = TypeVar("StoredType", bound=Stored)


def read_stored(path: Path, model: type[StoredType]) -> StoredType:
    """The content of a JSON file. Raises StiltsError, one line with file and key, where it is missing or damaged."""
    try:
        return model.model_validate_json(read_regular(path).decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise StiltsError(f"{path}: cannot be read ({reason})") from None
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"]) or "JSON"
        raise StiltsError(f"{path}: {key}: {problem['msg']}") from None
