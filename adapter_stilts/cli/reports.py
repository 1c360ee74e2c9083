"""`study report` and `study watch`: what a study has found so far, as a page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapter_stilts.cli.options import MirrorOption, RunsOption, SentenceIntervalsOption, accept
from adapter_stilts.cli.studies import FileArgument, StudyBackboneOption
from adapter_stilts.paths import user_path
from adapter_stilts.progress import quiet_libraries, say

if TYPE_CHECKING:
    from adapter_stilts.report.content import Missing, Report
    from adapter_stilts.studies.plan import Plan

# A page takes seconds of a core that runs may need: so many times as long nothing is computed after it.
REST = 9

OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder of the page and its data.", show_default="reports/NAME")
]
# It decides the precision of the runs, and so their names; nothing is computed on it, so it need not be here.
RanOnOption = Annotated[
    str | None,
    typer.Option(
        "--device", help="What the study ran on: cpu or cuda, whether it is here or not.", show_default="as study run"
    ),
]
RAN_ON = ("cpu", "cuda")


def report(
    file: FileArgument,
    out: OutOption = None,
    sentence_intervals: SentenceIntervalsOption = False,
    backbone: StudyBackboneOption = None,
    runs: RunsOption = None,
    hub_mirror: MirrorOption = None,
    device: RanOnOption = None,
) -> None:
    """Write a study's page, of the runs that are finished: index.html, data as CSV, tables as Markdown and LaTeX.

    Example: adapter-stilts study report quick --hub-mirror DIR --out report
    """
    with quiet_libraries():
        from adapter_stilts.report.content import make_report
        from adapter_stilts.report.write import write_report
        from adapter_stilts.studies.plan import runs_of

        made = _plan(file, backbone, runs, hub_mirror, device)
        now = make_report(made.study, list(runs_of(made)), made.store, sentence_intervals=sentence_intervals)
        path = write_report(now, user_path(out or _folder(made)))
    _tell(now, path)


def watch(
    file: FileArgument,
    every: Annotated[int, typer.Option("--every", min=1, help="Seconds between two looks.")] = 60,
    out: OutOption = None,
    sentence_intervals: SentenceIntervalsOption = False,
    backbone: StudyBackboneOption = None,
    runs: RunsOption = None,
    hub_mirror: MirrorOption = None,
    device: RanOnOption = None,
) -> None:
    """Write the page anew as runs finish, until all are in; an open browser follows. Ctrl-C ends it.

    Example: adapter-stilts study watch quick --every 30 --hub-mirror DIR
    """
    with quiet_libraries():
        from adapter_stilts.report.content import make_report, missing_runs
        from adapter_stilts.report.write import write_report
        from adapter_stilts.studies.plan import runs_of

        made = _plan(file, backbone, runs, hub_mirror, device)
        folder = user_path(out or _folder(made))
        now: Report | None = None
        pause = 0.0
        while now is None or not now.whole:
            time.sleep(pause)
            started, runs_now = time.monotonic(), list(runs_of(made))
            if now is not None and _unfinished(missing_runs(runs_now, made.store)) == _unfinished(now.missing):
                continue
            known = now.scored if now else None
            now = make_report(made.study, runs_now, made.store, known, sentence_intervals=sentence_intervals)
            pause = max(every, REST * (time.monotonic() - started))
            _tell(now, write_report(now, folder, None if now.whole else round(pause)))


def _plan(file: str, backbone: str | None, runs: Path | None, mirror: Path | None, device: str | None) -> Plan:
    from adapter_stilts.studies.plan import make_plan
    from adapter_stilts.studies.reading import find_study

    if device is not None:
        accept("--device", device, RAN_ON)
    return make_plan(find_study(file), runs, backbone=backbone, mirror=mirror, device=device)


def _unfinished(missing: Sequence[Missing]) -> list[tuple[str, bool]]:
    """What makes a page worth writing anew where it changes: which runs are not in it, and which of them failed."""
    return [(unfinished.run, unfinished.state == "failed") for unfinished in missing]


def _folder(made: Plan) -> Path:
    return Path("reports") / made.study.name


def _tell(now: Report, path: Path) -> None:
    say(f"{now.study.name}: {now.done} of {now.planned} target runs are in {path}")
