"""Carry a plan out: what is ready goes to a free worker, a failure stops only what stands on it, and all of it may be
killed at any instant and started again."""

from __future__ import annotations

import shutil
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path

from adapter_stilts.errors import StiltsError
from adapter_stilts.progress import Reporter, progress
from adapter_stilts.residue import remove
from adapter_stilts.runs.claims import Claims, Needs
from adapter_stilts.runs.record import RECORD, read_record
from adapter_stilts.runs.store import BUNDLE, Run, RunStore, keep_of
from adapter_stilts.runs.tidy import CHECKPOINTS, FAILURES
from adapter_stilts.studies.estimate import Estimate, duration, estimate
from adapter_stilts.studies.plan import Node, Plan, evaluation_of, states
from adapter_stilts.studies.pools import Here, Pool, Processes
from adapter_stilts.studies.work import Order, Outcome, Site
from adapter_stilts.threads import thread_count, usable_cores
from adapter_stilts.training.environment import Environment
from adapter_stilts.training.execution import Execution

# How often a run is tried again whose worker was killed, or whose weights were taken away, in one call.
TRIED_AGAIN = 2
# Seconds between two looks at runs that another process has claimed.
POLL = 1.0


class Interrupted(StiltsError):
    """Ctrl-C."""

    exit_code = 130


@dataclass(frozen=True)
class Result:
    """How a study's execution ended: runs done now, those that were before, the reason of each that failed, those
    that were not tried because they stand on one, and those that another process did meanwhile."""

    done: tuple[str, ...]
    before: tuple[str, ...]
    failed: Mapping[str, str]
    stopped: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()


def run_plan(plan: Plan, workers: int = 1, *, threads: int | None = None, execution: Execution | None = None) -> Result:
    """Do everything of a plan that is to do, in so many worker processes (0: in this one).

    On a CPU each worker has `threads` threads (None: its share of the cores). Other processes may be at the same plan:
    what they have claimed is waited for.

    Raises UsageError for more threads than cores, Interrupted at Ctrl-C, StiltsError where the disk is full; what is
    finished stays, and checkpoints of what is not, so that the same call goes on from there.
    """
    threads = thread_count(threads)
    now = states(plan)
    if "to do" not in now.values():
        before = tuple(name for name, state in now.items() if state == "done")
        _tidy(plan, before)
        return Result((), before, {}, ())
    plan.store.check()
    execution = execution or Execution()
    execution.check()
    # Before another look at what there is: what is seen then is not dropped by another study.
    with Claims(plan.store.folder).need(plan.nodes) as needs:
        return _run(plan, workers, _site(plan, workers, threads, execution), needs)


def _run(plan: Plan, workers: int, site: Site, needs: Needs) -> Result:
    now = states(plan)
    work = _Work(plan, [name for name, state in now.items() if state == "to do"], needs)
    before = tuple(name for name, state in now.items() if state == "done")
    _tidy(plan, before, needs)
    for name in needs.names - work.wanted - work.below():
        if _is_droppable(plan, name):
            needs.names.discard(name)
    needs.write()
    pool: Pool = Here(site, plan.backbone) if workers == 0 else Processes(site, min(workers, len(work.todo)))
    try:
        with progress(plan.study.name, work.total(), "s of work") as reporter:
            while not work.ended():
                _turn(work, pool, reporter, max(workers, 1))
    except KeyboardInterrupt:
        raise Interrupted("interrupted: run the same command again, and it goes on where it stopped") from None
    finally:
        pool.close()
    return Result(tuple(work.done_here()), before, work.failed, work.stopped(), tuple(sorted(work.others)))


def _site(plan: Plan, workers: int, threads: int | None, execution: Execution) -> Site:
    study = plan.study
    if threads is None and workers > 0 and plan.device == "cpu":
        threads = max(usable_cores() // workers, 1)
    environment = Environment(
        RunStore(plan.store.folder.resolve()), plan.mirror, plan.device, execution=execution, threads=threads
    )
    return Site(environment, plan.backbone.id, study.split, study.test_limit, study.test_languages)


@dataclass
class _Work:
    """What is to do, under way here, claimed by others, done (`others`: by them) and failed."""

    plan: Plan
    todo: list[str]
    needs: Needs
    ready: deque[str] = field(default_factory=deque)
    running: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)
    # Runs to do again, by those underneath that lost their weights and are trained again first.
    behind: dict[str, set[str]] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    done: list[str] = field(default_factory=list)
    others: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.above = self.plan.dependants()
        self.estimates: dict[str, Estimate] = estimate(self.plan, self.todo) if self.todo else {}
        self.wanted = set(self.todo)
        self.finished: set[str] = set()
        self.sorter = TopologicalSorter(
            {name: [below for below in self.plan.nodes[name].over if below in self.wanted] for name in self.todo}
        )
        self.sorter.prepare()
        self.ready.extend(self.sorter.get_ready())

    def below(self) -> set[str]:
        """Runs that those to do stand on."""
        return {run_name for name in self.todo for run_name in self.plan.nodes[name].over}

    def total(self) -> int:
        return sum(map(self.share, self.todo))

    def share(self, name: str) -> int:
        """How far a run moves the bar: the seconds that it is expected to take."""
        return max(round(self.estimates[name].seconds), 1) if name in self.estimates else 0

    def ended(self) -> bool:
        return not (self.ready or self.running or self.elsewhere)

    def finish(self, name: str) -> None:
        if name in self.wanted - self.finished:
            self.finished.add(name)
            self.done.append(name)
            self.sorter.done(name)
            self.ready.extend(self.sorter.get_ready())
        for other, below in list(self.behind.items()):
            below.discard(name)
            if not below:
                del self.behind[other]
                self.ready.append(other)

    def again(self, name: str, after: Sequence[str] = ()) -> bool:
        """Try a run again, once those in `after` are trained again; False where it was tried often enough."""
        self.tries[name] += 1
        if self.tries[name] > TRIED_AGAIN:
            return False
        below = {run_name for run_name in after if run_name != name}
        if below:
            self.behind[name] = below
        else:
            self.ready.append(name)
        at_work = {*self.ready, *self.running, *self.elsewhere, *self.behind}
        self.ready.extend(run_name for run_name in sorted(below) if run_name not in at_work)
        return True

    def done_here(self) -> list[str]:
        return [name for name in self.done if name not in self.others]

    def stopped(self) -> tuple[str, ...]:
        finished = {*self.done, *self.failed}
        return tuple(name for name in self.todo if name not in finished)

    def waits(self, name: str) -> bool:
        """Whether a run that is to do, or failed and will be tried again, stands on this one."""
        return any(dependant in self.wanted and dependant not in self.finished for dependant in self.above[name])

    def seconds_left(self, workers: int) -> float:
        """By how the runs that were done here compare with what was expected of them; what others are at, they do."""
        expected = sum(self.estimates[name].seconds for name in self.done_here())
        left = sum(self.estimates[name].seconds for name in self.stopped() if name not in self.elsewhere)
        ratio = (time.monotonic() - self.started) / expected if expected else 1 / workers
        return left * ratio


def _turn(work: _Work, pool: Pool, reporter: Reporter, workers: int) -> None:
    """Give out what is ready, take in what has ended, look after what others are at."""
    while work.ready and pool.free():
        name = work.ready.popleft()
        work.running.add(name)
        pool.give(_order(work.plan.nodes[name]))
    for outcome in pool.outcomes(POLL if work.running else 0):
        work.running.discard(outcome.name)
        _take(work, outcome, reporter, workers)
    if work.elsewhere:
        if not work.running:
            time.sleep(POLL)
        _look_elsewhere(work, reporter, workers)


def _order(node: Node) -> Order:
    # A worker finds what lies underneath in its store, and has a backbone of its own: what this one has loaded stays.
    request = replace(node.request, over=(), backbone=replace(node.request.backbone))
    return Order(node.name, request, node.over, len(node.request.over), node.target)


def _take(work: _Work, outcome: Outcome, reporter: Reporter, workers: int) -> None:
    name = outcome.name
    if outcome.kind == "disk full":
        raise StiltsError(_disk_full(work.plan, outcome.reason))
    if outcome.kind == "taken":
        work.elsewhere.add(name)
    elif outcome.kind == "done":
        work.finish(name)
        reporter.advance(work.share(name), tokens=outcome.tokens, seconds=outcome.seconds)
        _drop(work, name)
        reporter.say(_progress_line(work, workers))
    elif outcome.kind != "failed" and work.again(name, outcome.gone):
        reporter.say(f"{name}: {outcome.reason}; tried again ({work.tries[name]} of {TRIED_AGAIN})")
    else:
        work.failed[name] = outcome.reason
        reporter.advance(work.share(name))
        reporter.say(f"failed: {name}: {outcome.reason}")


def _progress_line(work: _Work, workers: int) -> str:
    failed = f", {len(work.failed)} failed" if work.failed else ""
    left = work.seconds_left(workers)
    runs_elsewhere = work.others | work.elsewhere
    others = f", {len(runs_elsewhere)} with another process" if runs_elsewhere else ""
    mine = f"{len(work.done_here())} of {len(work.todo) - len(runs_elsewhere)} runs"
    return f"{mine}{failed}{others}; about {duration(left)} left"


def _look_elsewhere(work: _Work, reporter: Reporter, workers: int) -> None:
    """Runs that others had claimed: done by now, free again, or still theirs."""
    claims = Claims(work.plan.store.folder)
    for name in sorted(work.elsewhere):
        if claims.held(name):
            continue
        work.elsewhere.discard(name)
        if _is_done(work, name):
            work.others.add(name)
            _take(work, Outcome(name, "done"), reporter, workers)
        else:
            work.ready.append(name)


def _is_done(work: _Work, name: str) -> bool:
    folder, node = work.plan.store.folder / name, work.plan.nodes[name]
    if not (folder / RECORD).is_file() or (work.waits(name) and not (folder / BUNDLE).is_dir()):
        return False
    return not node.cells or evaluation_of(work.plan, node) is not None


def _drop(work: _Work, name: str) -> None:
    """Drop the weights that the study does not keep, of this run and those under it, where nothing waits for them.
    Those that it keeps it needs until it ends: another study over the same runs may keep fewer."""
    for run_name in (name, *work.plan.nodes[name].over):
        if not _is_droppable(work.plan, run_name):
            continue
        if not work.waits(run_name) and (run_name not in work.wanted or run_name in work.finished):
            work.needs.give_up(run_name)
            _keep(work.plan, run_name, work.needs)


def _is_droppable(plan: Plan, name: str) -> bool:
    """Whether the study does not keep a run's weights."""
    keep = plan.study.keep
    return keep == "scores" or (keep == "adapters" and plan.nodes[name].job.method == "full")


def _keep(plan: Plan, name: str, needs: Needs | None) -> None:
    folder = plan.store.folder / name
    if _is_droppable(plan, name) and (folder / BUNDLE).is_dir() and (folder / RECORD).is_file():
        keep_of(Run(folder, read_record(folder)), plan.study.keep, needs)


def _tidy(plan: Plan, done: tuple[str, ...], needs: Needs | None = None) -> None:
    """What a kill left to do for runs that are done: drop weights that nothing needs, remove what is left over."""
    now, above = set(done), plan.dependants()
    for name in done:
        (plan.store.folder / FAILURES / f"{name}.txt").unlink(missing_ok=True)
        if all(dependant in now for dependant in above[name]):
            _keep(plan, name, needs)
            remove(plan.store.folder / CHECKPOINTS / name)


def _disk_full(plan: Plan, reason: str) -> str:
    folder = Path(plan.store.folder)
    free = shutil.disk_usage(folder).free / 2**30
    return (
        f"{folder}: the disk is full ({free:.1f} GiB left; {reason}); make room, or set `keep: scores` in "
        f"{plan.study.path.name}, and run the same command again: it goes on where it stopped"
    )
