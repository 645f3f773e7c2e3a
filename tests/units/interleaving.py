"""Threads that move one at a time, from one operation on files to the next, as a test wants."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from bulk_inferencer import _files

# What touches a filesystem and calls none of the others but for `exists` and `delete`.
_OPERATIONS = (
    *("open_to_read", "open_to_write", "rename", "_rename_once", "copy", "delete", "exists"),
    *("matching", "stored", "make_folder", "delete_empty_folder"),
)
_PATIENCE_SECONDS = 60.0


class Killed(BaseException):
    """Ends the thread of an actor that was killed."""


class Actor:
    """A thread that stops before each operation on files; see `Turns.actor`.

    Attributes:
      next: the operation before which it has stopped.
      result: what its function returned.
      error: what its function raised.
      files: the files that it has opened.
    """

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        self.name = name
        self.next = ""
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_over = False
        self.files: list[Any] = []
        self._function = function
        self._is_killed = False
        self._waits_for: Callable[[], bool] = lambda: True
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._await()

    def can_move(self) -> bool:
        return not self.is_over and self._waits_for()

    def step(self) -> None:
        """Lets it do one operation."""
        self._go.release()
        self._await()

    def kill(self) -> None:
        """Ends it as `kill -9` does: it does nothing more, not even in its cleaning up."""
        self._is_killed = True
        while not self.is_over:
            self.step()
        for file in self.files:
            file.close()  # as the system does

    def stop(self, operation: str, waits_for: Callable[[], bool] = lambda: True) -> None:
        """Stops here, in its thread, until the test wants it to move, and it can."""
        self.next, self._waits_for = operation, waits_for
        self._stopped.release()
        self._go.acquire()
        if self._is_killed:
            raise Killed

    def _run(self) -> None:
        try:
            self.stop("begin")
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001, the test looks at it
            self.error = error
        self.is_over = True
        self._stopped.release()

    def _await(self) -> None:
        assert self._stopped.acquire(timeout=_PATIENCE_SECONDS), f"{self.name} hangs: {self.next}"


class Turns:
    """Makes actors, and lets them move. Threads that are no actors go on as ever."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.actors: list[Actor] = []
        for name in _OPERATIONS:
            patch.setattr(_files, name, self._stopping(name, getattr(_files, name)))
        for name in ("write", "close"):
            patch.setattr(_files.Writer, name, self._stopping(name, getattr(_files.Writer, name)))
        in_parallel = _files.in_parallel

        def one_by_one(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
            return list(map(function, items)) if self._acting() else in_parallel(function, items)

        patch.setattr(_files, "in_parallel", one_by_one)

    def actor(self, name: str, function: Callable[[], Any]) -> Actor:
        """Returns a new actor, which has not begun yet."""
        actor = Actor(name, function)
        self.actors.append(actor)
        return actor

    def wait(self, condition: Callable[[], bool]) -> None:
        """Lets the actor of this thread wait until other actors have brought something about."""
        actor = self._acting()
        assert actor
        actor.stop("wait", condition)

    def moving(self) -> list[Actor]:
        """Returns the actors that can move."""
        return [actor for actor in self.actors if actor.can_move()]

    def finish(self) -> None:
        """Lets all actors go on to their ends, in turns."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while moving := self.moving():
            for actor in moving:
                actor.step()
            assert time.monotonic() < deadline
        assert all(actor.is_over for actor in self.actors)

    def _acting(self) -> Actor | None:
        thread = threading.current_thread()
        return next((actor for actor in self.actors if actor._thread is thread), None)

    def _stopping(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def stops_before(*args: Any, **settings: Any) -> Any:
            if not (actor := self._acting()):
                return function(*args, **settings)
            actor.stop(f"{name} {args[0]}")
            returned = function(*args, **settings)
            if name.startswith("open"):
                actor.files.append(returned)
            return returned

        return stops_before
