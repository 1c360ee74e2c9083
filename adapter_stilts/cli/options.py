"""What the commands have in common: options, checks of what was typed, output as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from adapter_stilts import arguments
from adapter_stilts.backbone_names import DEFAULT_BACKBONE as DEFAULT_BACKBONE
from adapter_stilts.errors import UsageError
from adapter_stilts.model.composition import BOTTLENECK_NAMES
from adapter_stilts.model.composition import METHODS as OWN_METHODS
from adapter_stilts.plain_text import json_text
from adapter_stilts.schema import SplitName

SPLITS = get_args(SplitName)
METHODS = (*OWN_METHODS, *BOTTLENECK_NAMES)

BackboneOption = Annotated[str, typer.Option("--backbone", help="An XLM-R checkpoint's Hub id or folder, or embedded.")]
MethodOption = Annotated[
    str, typer.Option("--method", help=f"What trains: {', '.join(METHODS)}. Example: --method lora")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1)]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        help="Training examples of each task, drawn with the seed, of intermediates that are trained first as well.",
        show_default="all",
    ),
]
DevelopmentLimitOption = Annotated[
    int | None,
    typer.Option(
        "--development-limit",
        min=1,
        metavar="N",
        help="Development examples that are scored after each epoch: --set development_examples=N, for intermediates "
        "that are trained first as well. Example: --limit 64 --development-limit 64",
        show_default="the recipe's, or all",
    ),
]
MatchTokensOption = Annotated[
    int | None,
    typer.Option(
        "--match-tokens",
        min=1,
        metavar="N",
        help="Training pieces of each intermediate, for intermediates of equal size; where nothing lies under the run, "
        "of the run itself. Example: --match-tokens 100000",
        show_default="all",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a field of the recipe. Repeatable. Example: --set layers=6-11"
    ),
]
RunsOption = Annotated[
    Path | None, typer.Option("--runs", help="Folder of runs.", show_default="$ADAPTER_STILTS_RUNS, else runs")
]
MirrorOption = Annotated[
    Path | None,
    typer.Option(
        "--hub-mirror", help="Folder in place of the Hub.", show_default="$ADAPTER_STILTS_HUB_MIRROR, else none"
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:N.", show_default="cuda where there is one")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="Threads that compute on a CPU, at most as many as the cores that this process may use.",
        show_default="$OMP_NUM_THREADS, else all cores",
    ),
]
TensorboardOption = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        help="Write TensorBoard logs of what trains now, a folder a run: losses, learning rates, development scores.",
        show_default="none",
    ),
]
SplitOption = Annotated[str, typer.Option("--split", help=f"{', '.join(SPLITS)}.")]
SentenceIntervalsOption = Annotated[
    bool,
    typer.Option(
        "--sentence-intervals",
        help="95% intervals over test sentences alone: narrow, and no word on what another seed would change.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def accept(option: str, value: str | None, accepted: Sequence[str]) -> None:
    """Raise UsageError for a value that is not among the accepted ones."""
    if value is not None and value not in accepted:
        raise UsageError(f"{option}: found {value!r}, accepted: {', '.join(accepted)}")


def assignments(option: str, typed: Sequence[str] | None, form: str = "KEY=VALUE") -> dict[str, str]:
    """What was typed after a repeatable option. Raises UsageError for what is not of that form."""
    for text in typed or ():
        if "=" not in text:
            raise UsageError(f"{option} {text}: found no '=', accepted {form}")
    return dict(text.split("=", 1) for text in typed or ())


def columns_by_role(typed: list[str] | None) -> dict[str, str]:
    """Role -> column of what was typed after --columns."""
    parts = [part.strip() for text in typed or () for part in text.split(",")]
    return assignments("--columns", parts, "ROLE=COLUMN")


def language_codes(languages: str | None) -> list[str] | None:
    """The codes after --languages. Raises UsageError where there is none."""
    return arguments.language_codes("--languages", languages)


def usable_device(option: str | None) -> str | None:
    """The device asked for. Raises UsageError where PyTorch cannot use it here."""
    if option is None or option == "cpu":
        return option
    import torch

    usable = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    usable += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    accept("--device", option, usable)
    return option


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json_text(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)))
