"""Claims on folders: while one run writes to a folder, no other run does.

A claim is a file, `.work/claim-NNNNNN*.json`, that says which process owns the folder and when it
was last alive. A run claims with the next free number, and only if all earlier claims are dead:

    claim-000001  process 17, killed an hour ago
    claim-000002  process 42, alive                  <- owns the folder

On a local disk, only one process can make a file of a given name. Elsewhere, Beam has no such call:
a run writes its claim, then looks again, and steps back if another one came at the same time. At
most one run wins there, too, but it may be none.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone

from bulk_inferencer import _files
from bulk_inferencer._layout import WORK_FOLDER
from bulk_inferencer.errors import FolderInUseError

_logger = logging.getLogger(__name__)

_SIGN_SECONDS = 10  # between two signs of life
_DEAD_SECONDS = 120  # without a sign of life
_NAME = re.compile(r"claim-(\d+)\b.*\.json")
_ATTEMPT = re.compile(_NAME.pattern + r"-[0-9a-f]{32}")  # of `_files.replace`


def _machine() -> str:
    """Tells machines and containers apart that have one host name; empty where Linux is not."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


@dataclass(frozen=True)
class Claim:
    """What a claim says of the run that made it.

    Attributes:
      run: unique to the run.
      host: the machine's name.
      process: its number there.
      machine: tells its numbers of processes from those of other machines and containers.
      alive: when it was last alive, in seconds since 1970.
    """

    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)
    machine: str = field(default_factory=_machine)
    alive: float = field(default_factory=time.time)

    def is_alive(self) -> bool:
        """Returns whether its run may still be going on."""
        if time.time() - self.alive > _DEAD_SECONDS:
            return False
        is_here = (self.host, self.machine) == (socket.gethostname(), _machine())
        return not is_here or _is_running(self.process)

    def __str__(self) -> str:
        alive = datetime.fromtimestamp(self.alive, timezone.utc)
        return f"process {self.process} on {self.host}, last alive at {alive:%Y-%m-%d %H:%M:%S} UTC"


class Claims:
    """The claims of one run."""

    def __init__(self) -> None:
        self.taken_over: dict[str, Claim] = {}
        self._claim = Claim()
        self._paths: dict[str, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._give_signs, name="claims", daemon=True)

    def take(self, folder: str) -> None:
        """Claims a folder, which need not exist.

        Raises:
          FolderInUseError: another run may still be writing to it.
        """
        earlier = _claims_in(folder)
        for claim in earlier.values():
            if claim.is_alive():
                raise _in_use(folder, claim)
        number = 1 + max((_number(path) for path in earlier), default=0)
        run = "" if _files.is_local(folder) else f"-{self._claim.run}"
        path = posixpath.join(folder, WORK_FOLDER, f"claim-{number:06d}{run}.json")
        content = json.dumps(asdict(self._claim)).encode()
        try:
            _files.create(path, content)
        except FileExistsError as error:
            rivals = [claim for p, claim in _claims_in(folder).items() if _number(p) == number]
            raise _in_use(folder, rivals[0] if rivals else None) from error
        self._paths[folder] = path
        for other, claim in _claims_in(folder).items():
            if other != path and _number(other) >= number:
                raise _in_use(folder, claim)
        if earlier:
            self.taken_over[folder] = earlier[max(earlier, key=_number)]

    def check(self) -> None:
        """Checks that this run still owns its folders.

        Raises:
          FolderInUseError: another run took one over.
        """
        for folder, path in self._paths.items():
            found = _claims_in(folder)
            later = {p: claim for p, claim in found.items() if _number(p) > _number(path)}
            if later or path not in found or found[path].run != self._claim.run:
                raise _lost(folder, later[max(later, key=_number)] if later else None)

    def release(self, folder: str) -> None:
        """Gives up a folder, and removes its `.work` if nothing else is in it."""
        own = self._paths.pop(folder, "")
        for path in _claims_in(folder):
            if path != own and own and _number(path) < _number(own):
                _files.delete(path)
        if own:
            _delete_half_written(folder)
            _files.delete(own)
        _files.delete_empty_folder(posixpath.join(folder, WORK_FOLDER))

    def release_all(self) -> None:
        """Gives up all folders."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()  # or it would write a claim that has just been deleted
        for folder in list(self._paths):
            try:
                self.release(folder)
            except Exception as error:  # noqa: BLE001, the claim dies by itself
                _logger.warning("Could not give up the claim on %s: %s", folder, error)

    def keep_alive(self) -> None:
        """Gives signs of life, in a thread, until the claims are given up."""
        self._thread.start()

    def _give_signs(self) -> None:
        while not self._ended.wait(_SIGN_SECONDS):
            try:
                self.check()
                for path in self._paths.values():
                    alive = {**asdict(self._claim), "alive": time.time()}
                    _files.replace(path, json.dumps(alive).encode())
            except FolderInUseError:  # A claim that is lost must not come back.
                return
            except Exception as error:  # noqa: BLE001, a network may be down for a while
                _logger.warning("Could not renew the claims: %s", error)


@contextmanager
def claimed(folders: Sequence[str]) -> Iterator[Claims]:
    """Owns folders within `with`, or raises a `FolderInUseError`; see `Claims.take`."""
    claims = Claims()
    try:
        for folder in folders:
            claims.take(folder)
        claims.keep_alive()
        yield claims
    finally:
        claims.release_all()


def is_claim(path: str) -> bool:
    """Returns whether a file is a claim, by its name."""
    name = posixpath.basename(path)
    return bool(_NAME.fullmatch(name) or _ATTEMPT.fullmatch(name))


def _number(path: str) -> int:
    match = _NAME.fullmatch(posixpath.basename(path))
    return int(match[1]) if match else 0


def _claims_in(folder: str) -> dict[str, Claim]:
    found = {}
    for path in _files.files_below(posixpath.join(folder, WORK_FOLDER)):
        if _NAME.fullmatch(posixpath.basename(path)):
            try:
                with _files.open_to_read(path) as file:
                    found[path] = Claim(**json.loads(file.read()))
            except FileNotFoundError:
                continue  # given up since
            except (ValueError, TypeError):  # just being written
                stored = _files.stored(path)
                alive = stored.modified if stored else 0.0
                found[path] = Claim("", "unknown host", 0, "", alive)
    return found


def _delete_half_written(folder: str) -> None:
    """Deletes what is left of claims whose processes were killed while they wrote them."""
    pattern = posixpath.join(_files.literal(folder), WORK_FOLDER, "claim-*")
    for path, stored in _files.matching(pattern).items():
        # Some filesystems do not say when; then it is 0.
        is_old = 0 < stored.modified < time.time() - _DEAD_SECONDS
        if is_old and _ATTEMPT.fullmatch(posixpath.basename(path)):
            _files.delete(path)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _lost(folder: str, rival: Claim | None) -> FolderInUseError:
    if rival is None:
        return FolderInUseError(
            f"The claim of this run on {folder} is gone: its {WORK_FOLDER} was deleted or moved "
            f"while the run was going on. Nothing was committed. Run again."
        )
    return FolderInUseError(
        f"Another run has taken over {folder}: {rival}. This run gave no sign of life for "
        f"{_DEAD_SECONDS} s, for example because its machine slept. Nothing was committed. Run "
        f"again when the other one is over."
    )


def _in_use(folder: str, claim: Claim | None) -> FolderInUseError:
    by = f": {claim}" if claim else ""
    return FolderInUseError(
        f"Another run is writing to {folder}{by}. Choose another folder, or wait until it is "
        f"over. If it was killed, its claim ends {_DEAD_SECONDS} s after its last sign of life."
    )
