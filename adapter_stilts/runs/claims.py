"""Who is at work on which run, and who needs the weights of which: one file each, so that processes that share a store
do nothing twice and take nothing away from each other.

A claim is created exclusively, touched now and then, and removed at the end. One whose owner is dead is taken over: at
once where the owner's process can be seen to be gone (same machine, same boot), else after `TIMEOUT` seconds without a
touch, by the clock of the file system, so that machines need not agree on the time. An owner that was stopped for so
long and goes on finds that its claim is another's.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_stilts.errors import StiltsError
from adapter_stilts.files import atomic_write_text, read_regular
from adapter_stilts.locks import lock
from adapter_stilts.owners import Owner, myself, owner_of_json
from adapter_stilts.progress import say
from adapter_stilts.residue import remove, seconds_silent, sweep
from adapter_stilts.trust import refuse_links

CLAIMS = ".claims"
HEARTBEAT, TIMEOUT = 10.0, 120.0
# Between creating a claim and writing its owner into it lie microseconds: one without an owner was left by a kill.
UNWRITTEN_TIMEOUT = 5.0
# Looks at a claim of our own that cannot be read, before its end is left to others.
LOOKS = 3


# What the system says of a claim that is gone or is no file (0: `read_regular`).
_NO_CLAIM = {0, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}


@dataclass(frozen=True)
class Claim:
    """A run that is ours."""

    path: Path
    token: str

    @property
    def is_lost(self) -> bool:
        """Whether it is seen to have been taken over, as after a long sleep of this process."""
        return _is_anothers(self.path, self.token)


class Needs:
    """Runs whose weights a process will read: nobody else drops them while it lives."""

    def __init__(self, path: Path, names: Iterable[str], token: str) -> None:
        self.path, self.names, self.token = path, set(names), token

    def give_up(self, name: str) -> None:
        """It needs this one no longer."""
        if name in self.names:
            self.names.discard(name)
            self.write()

    def write(self) -> None:
        content = {**myself().as_json(), "token": self.token, "needs": sorted(self.names)}
        atomic_write_text(self.path, json.dumps(content))


class Claims:
    """The claims of one store, as this process holds and sees them. Raises StiltsError where their folder is a link."""

    def __init__(self, store: Path, heartbeat: float | None = None, timeout: float | None = None) -> None:
        self.folder = store / CLAIMS
        refuse_links(self.folder, store)
        self.heartbeat = HEARTBEAT if heartbeat is None else heartbeat
        self.timeout = TIMEOUT if timeout is None else timeout

    @contextmanager
    def hold(self, name: str) -> Iterator[Claim | None]:
        """The claim on a run for the time of the block; None where a living process has it."""
        claim = Claim(self._path(name), uuid.uuid4().hex)
        with self._alone():
            acquired = self._take(claim)
        if not acquired:
            yield None
            return
        with self._beating(claim.path, claim.token):
            yield claim

    @contextmanager
    def need(self, names: Iterable[str]) -> Iterator[Needs]:
        """For the time of the block nobody else drops the weights of these runs."""
        token = uuid.uuid4().hex
        needs = Needs(self.folder / f"{token}.needs", names, token)
        with self._alone():
            needs.write()
        with self._beating(needs.path, token):
            yield needs

    def held(self, name: str) -> bool:
        """Whether somebody living is at work on the run."""
        path = self._path(name)
        return os.path.lexists(path) and not self._is_dead(path)

    @contextmanager
    def unneeded(self, name: str, besides: Needs | None = None) -> Iterator[bool]:
        """Whether nobody living works on the run or needs its weights, apart from `besides`; it stays so for the time
        of the block."""
        if not self.folder.is_dir():
            yield True
            return
        with self._alone():
            yield not self.held(name) and not any(
                path != (besides.path if besides else None) and _may_need(path, name) and not self._is_dead(path)
                for path in self.folder.glob("*.needs")
            )

    def clear(self) -> None:
        """Remove what dead processes left here."""
        sweep(self.folder)
        left = [*self.folder.glob("*.json"), *self.folder.glob("*.needs")]
        if any(map(self._is_dead, left)):
            with self._alone():
                for path in left:
                    if os.path.lexists(path) and self._is_dead(path):
                        _discard(path)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _take(self, claim: Claim) -> bool:
        path = claim.path
        if os.path.lexists(path):
            if not self._is_dead(path):
                return False
            _discard(path)
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(file, "w", encoding="utf-8") as text:
                json.dump({**myself().as_json(), "token": claim.token}, text)
        except OSError:
            path.unlink(missing_ok=True)  # a full disk
            raise
        return True

    def _is_dead(self, path: Path) -> bool:
        try:
            owner = _owner(path)
            timeout = self.timeout if owner else UNWRITTEN_TIMEOUT
        except OSError:  # somebody's all the same
            owner, timeout = None, self.timeout
        lives = owner.lives if owner else None
        try:
            if owner is not None and lives is not None:
                return not lives or (owner.is_stopped and seconds_silent(path) > self.timeout)
            if not stat.S_ISREG(path.lstat().st_mode):
                return True
            # One from the future is nobody's: whoever lives touches it.
            return abs(seconds_silent(path)) > timeout
        except FileNotFoundError:
            return True
        except OSError:  # a store that may only be read: there its age cannot be told
            return False

    @contextmanager
    def _beating(self, path: Path, token: str) -> Iterator[None]:
        """Touch our file for the time of the block, and remove it at the end; another's is left alone."""
        over = threading.Event()
        heart = threading.Thread(target=self._beat, args=(path, token, over), daemon=True)
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()
            with self._alone():
                self._end(path, token)

    def _end(self, path: Path, token: str) -> None:
        for look in range(LOOKS):
            with suppress(OSError):
                if _content(path).get("token") == token:
                    path.unlink(missing_ok=True)
                return
            time.sleep(0.1 * look)

    def _beat(self, path: Path, token: str, over: threading.Event) -> None:
        while not over.wait(self.heartbeat):
            with suppress(OSError):  # a file system that fails once: the next beat tries again
                if _content(path).get("token") != token:
                    return  # another's, or gone: this process slept for too long
                os.utime(path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time looks at claims and takes them; the system frees the lock of one that dies."""
        path = self.folder / ".lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # callers know what to say of a full disk
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise StiltsError(f"{self.folder.parent}: cannot be written ({error.strerror})") from None
            raise StiltsError(f"{error.filename or path}: cannot be used for claims ({error.strerror})") from None
        try:
            lock(handle, path)
            yield
        finally:
            os.close(handle)


def _discard(path: Path) -> None:
    """Remove a dead claim, and say so where it is damaged."""
    with suppress(OSError):
        if _owner(path) is None:
            say(f"{path}: found a claim that names no owner; it is taken over")
    remove(path)


def _owner(path: Path) -> Owner | None:
    """Whose a claim is; None where it is gone, not written yet, or damaged. Raises OSError where it cannot be read."""
    content = _content(path)
    return owner_of_json(content) if isinstance(content.get("token"), str) else None


def _is_anothers(path: Path, token: str) -> bool:
    try:
        return _content(path).get("token") != token
    except OSError:
        return False


def _may_need(path: Path, name: str) -> bool:
    """Whether a file of needs names a run, or cannot be read."""
    try:
        needs = _content(path).get("needs")
    except OSError:
        return True
    return isinstance(needs, list) and name in needs


def _content(path: Path) -> dict[str, Any]:
    """What a claim says; nothing where it is gone, not written yet, no regular file, or no JSON. Raises OSError where
    it is there and cannot be read, now or by this process."""
    try:
        content = json.loads(read_regular(path, most=2**24))
    except OSError as error:
        if error.errno in _NO_CLAIM:
            return {}
        raise
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


@contextmanager
def weights_in_use(run: Path, name: str) -> Iterator[None]:
    """For the time of the block nobody else drops the weights in a run's folder. A store that this process cannot write
    goes without, and so does a copy outside of stores, whose folder has another name than its run."""
    with ExitStack() as stack:
        if run.name == name:
            claims = Claims(run.parent)
            with suppress(OSError, StiltsError):
                stack.enter_context(claims.need([name]))
        yield
