"""`quickstart`: a small study from its plan to its report, on data that come with the package."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapter_stilts.cli.options import DeviceOption, MirrorOption, RunsOption, SentenceIntervalsOption, usable_device
from adapter_stilts.cli.reports import OutOption
from adapter_stilts.cli.studies import StudyBackboneOption, show_plan, tell
from adapter_stilts.errors import UsageError
from adapter_stilts.memory import PeakMemory
from adapter_stilts.paths import mirror_dir, user_path
from adapter_stilts.progress import quiet_libraries, show, show_lines, terminal_width
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import find_task

if TYPE_CHECKING:
    from adapter_stilts.report.content import Report
    from adapter_stilts.studies.plan import Plan
    from adapter_stilts.study_schema import Study

# On data at hand; on repositories, with and without a folder that has what is not on the Hub.
EMBEDDED, MIRROR, HUB = "quickstart", "quickstart_mirror", "quickstart_hub"
OFFLINE = "offline/"
WIDTH = 120
LABEL_WIDTH = 44

TasksOption = Annotated[
    str | None,
    typer.Option(
        "--tasks", help="Target tasks in place of the toy: names or YAML files, commas between. Example: --tasks udpos"
    ),
]


def quickstart(
    tasks: TasksOption = None,
    backbone: StudyBackboneOption = None,
    out: OutOption = None,
    sentence_intervals: SentenceIntervalsOption = False,
    runs: RunsOption = None,
    hub_mirror: MirrorOption = None,
    device: DeviceOption = None,
) -> None:
    """Run a small study from its plan to its report: minutes on a laptop, nothing to download.

    Two intermediate tasks, one syntactic, one semantic, under a target task: none, stacked, fused, and full STILTs,
    scored in languages that were never trained on. What is done is not done again. --backbone and --tasks put real ones
    in place of the toys.

    Example: adapter-stilts quickstart --tasks udpos --backbone FacebookAI/xlm-roberta-base
    """
    started = time.monotonic()
    with PeakMemory() as memory:
        with quiet_libraries():
            from adapter_stilts.studies.plan import make_plan
            from adapter_stilts.studies.scheduler import run_plan

            study = study_on(_names(tasks), hub_mirror)
            made = make_plan(study, runs, backbone=backbone, mirror=hub_mirror, device=usable_device(device))
        show_plan(made)
        with quiet_libraries():
            result = run_plan(made, workers=0)
        tell(made, result)
        report, page = _report(made, user_path(out or Path("reports") / study.name), sentence_intervals)
    _show_comparison(report)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    commands = next_commands(report, _repeated(backbone, runs, hub_mirror))
    show_lines(
        f"report: {page}",
        f"time: {minutes} min {seconds} s; peak memory: {memory.bytes / 2**30:.1f} GiB",
        "",
        "try next:",
        *(f"  {command}" for command in commands),
    )


def study_on(names: Sequence[str], mirror: Path | None) -> Study:
    """The study that serves for these targets (none: its own). Its intermediates are real ones where a target is read
    from a repository. Raises UsageError for a target that does not exist, or cannot be one."""
    from adapter_stilts.studies.reading import find_study

    try:
        targets = [find_task(name) for name in names]
    except UsageError as error:
        raise UsageError(f"--tasks: {error}") from None
    if not any(map(_reads_repository, targets)):
        return find_study(EMBEDDED, names)
    study, folder = find_study(MIRROR, names), mirror_dir(mirror)
    offline = [str(find_task(name).data.dataset) for name in study.by_label]
    mirrored = folder is not None and all((folder / name).is_dir() for name in offline if name.startswith(OFFLINE))
    return study if mirrored else find_study(HUB, names)


def _reads_repository(task: Task) -> bool:
    return any((source.format or task.data.format) is None for source in task.data.languages.values())


def _names(tasks: str | None) -> list[str]:
    names = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    if tasks is not None and not names:
        raise UsageError(f"--tasks: found {tasks!r}, accepted names of target tasks with commas between, such as udpos")
    return names


def _report(made: Plan, out: Path, sentence_intervals: bool) -> tuple[Report, Path]:
    with quiet_libraries():
        from adapter_stilts.report.content import make_report
        from adapter_stilts.report.write import write_report
        from adapter_stilts.studies.plan import runs_of

        report = make_report(made.study, list(runs_of(made)), made.store, sentence_intervals=sentence_intervals)
        return report, write_report(report, out)


def _show_comparison(report: Report) -> None:
    """Of every target: its rows, their scores in every language, and what these numbers are."""
    from adapter_stilts.analysis.majority import above_majority, numbered_rows, scores_by_language
    from adapter_stilts.analysis.render import conditions, fitting, rich_table, warnings

    width = terminal_width()
    for table in report.tables:
        for number, cells in enumerate((numbered_rows(table), scores_by_language(table))):
            for part in fitting(cells, width):
                rich = rich_table(part, width)
                if number == 0 and width is None:
                    rich.columns[1].max_width = LABEL_WIDTH
                print()
                show(rich)
        print()
        for text in (*warnings(table), above_majority(table), conditions(table)):
            if text:
                show_lines(*textwrap.wrap(text, width or WIDTH, break_long_words=False, break_on_hyphens=False))
        print()


def _repeated(backbone: str | None, runs: Path | None, mirror: Path | None) -> dict[str, str]:
    """The options that were given, as the next commands need them."""
    given = {"--backbone": backbone, "--runs": runs, "--hub-mirror": mirror}
    return {option: f" {option} {value}" for option, value in given.items() if value is not None}


def next_commands(report: Report, given: dict[str, str]) -> list[str]:
    """Three commands that go on from here: tag a sentence, compare by family too, take real data (or other ones)."""
    stored = given.get("--runs", "") + given.get("--hub-mirror", "")
    everything = given.get("--backbone", "") + stored
    program = "adapter-stilts" if shutil.which("adapter-stilts") else _as_typed(Path(sys.argv[0]))
    run = report.tables[0].rows[0].runs[0]
    real = "udpos" if "udpos" not in report.study.targets else "wikiann"
    return [
        f"echo 'Mbwa wetu analala ndani .' > my.txt && {program} predict {run} my.txt{stored}",
        f"{program} compare{given.get('--runs', '')}",
        f"{program} quickstart --tasks {real}{everything}",
    ]


def _as_typed(program: Path) -> str:
    """A program that is not on the PATH, such as .venv/bin/adapter-stilts."""
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)
