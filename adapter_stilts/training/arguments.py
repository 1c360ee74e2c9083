"""What `train` and `tune` take from Python, checked: the one place where an argument says what it accepts.

Everything here raises UsageError, one line with the argument's name, for what it cannot take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from adapter_stilts.arguments import choice, kind, language_codes, path_of, seed_of, settings_of, whole_number
from adapter_stilts.engine.device import TRAINING_PRECISIONS, default_device, default_precision
from adapter_stilts.jobs.request import Request
from adapter_stilts.model.backbone import Backbone, load_backbone
from adapter_stilts.paths import mirror_dir
from adapter_stilts.runs.store import Keep, RunStore, check_copy
from adapter_stilts.schema import Task
from adapter_stilts.threads import thread_count
from adapter_stilts.training.environment import Environment
from adapter_stilts.training.execution import Execution


def _of_kind(name: str, kinds: tuple[type, ...], accepted: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        kind(name, value, kinds, accepted)
        return value

    return check


def _one_of(name: str, accepted: tuple[str, ...]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        choice(name, value, accepted)
        return value

    return check


def _languages(value: Any) -> tuple[str, ...] | None:
    return tuple(language_codes("--languages", value) or ()) or None


def _store(value: Any) -> RunStore:
    kind("--runs", value, (str, Path, RunStore), "a folder, or a RunStore")
    return value if isinstance(value, RunStore) else RunStore(value)


def _device(value: Any) -> str:
    kind("--device", value, (str,), "text")
    return value or default_device()


def _execution(value: Any) -> Execution:
    kind("--execution", value, (Execution,), "an Execution")
    return value or Execution()


def _out(value: Any) -> Path | None:
    out = path_of("--out", value)
    if out is not None:
        check_copy(out)
    return out


# Field of a Request -> what makes it of the argument.
_REQUEST: dict[str, Callable[[Any], Any]] = {
    "compose": _of_kind("--compose", (str,), "text"),
    "method": _of_kind("--method", (str,), "text"),
    "seed": lambda value: seed_of("--seed", value),
    "limit": lambda value: whole_number("--limit", value),
    "development_limit": lambda value: whole_number("--development-limit", value, 1),
    "match_tokens": lambda value: whole_number("--match-tokens", value),
    "languages": _languages,
    "control": lambda value: value,  # `resolve` refuses it with what it does not go with
    "settings": lambda value: settings_of("settings", value),
    "precision": _one_of("--precision", TRAINING_PRECISIONS),
}
# Field of an Environment -> what makes it of the argument.
_ENVIRONMENT: dict[str, Callable[[Any], Any]] = {
    "store": _store,
    "mirror": lambda value: mirror_dir(path_of("--hub-mirror", value)),
    "device": _device,
    "execution": _execution,
    "threads": thread_count,
    "keep": lambda value: _one_of("keep", get_args(Keep))(value) or "all",
    "weights": bool,
    "out": _out,
}


def request_fields(**arguments: Any) -> dict[str, Any]:
    """Those fields of a Request, checked."""
    return {name: _REQUEST[name](value) for name, value in arguments.items()}


def environment_of(**arguments: Any) -> Environment:
    """The Environment of these fields, checked; None stands for the default of each."""
    return Environment(**{name: _ENVIRONMENT[name](value) for name, value in arguments.items()})


def request_of(tasks: Sequence[Task], backbone: object, environment: Environment, fields: Mapping[str, Any]) -> Request:
    """The request for tasks with a backbone, by name or loaded, and these fields; without a `precision` it is the usual
    one of the device."""
    kind("--backbone", backbone, (str, Path, Backbone), "a Hub id, a folder, or a Backbone")
    if not isinstance(backbone, Backbone):
        backbone = load_backbone(backbone, mirror=environment.mirror)  # type: ignore[arg-type]
    precision = fields.get("precision") or default_precision(environment.device)
    return Request(**{**fields, "tasks": tuple(tasks), "backbone": backbone, "precision": precision})
