"""The error that ends a run: a worker leaves it where the run and all other workers find it.

Raised through an engine, it would come back as text, below pages of traceback, after the engine had
tried again what cannot succeed.
"""

from __future__ import annotations

import json
import logging
import posixpath
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bulk_inferencer import _files, errors
from bulk_inferencer.errors import BulkInferencerError, OutputError

_logger = logging.getLogger(__name__)

_ROOM_BYTES = 4096


@dataclass(frozen=True)
class StopSign:
    """A file that says why no more units should start.

    ```python
    stop = StopSign.in_folder(folder)
    ...
    with stop.put_up_on_error():  # on a worker
        if not stop.is_up():
            score(unit)
    ...
    if error := stop.take_down():
        raise error
    ```

    Attributes:
      path: the file, which no other run uses.
      room: a file that becomes it, and keeps room for it on a disk that may be full by then.
    """

    path: str
    room: str = ""

    @classmethod
    def in_folder(cls, folder: str) -> StopSign:
        """Returns a new one, which is not up, in a folder that exists."""
        path = posixpath.join(folder, f"stop-{uuid.uuid4().hex}")
        if not _files.is_local(folder):
            return cls(path)
        stop = cls(path, f"{path}-room")
        _files.replace(stop.room, b" " * _ROOM_BYTES)
        return stop

    def is_up(self) -> bool:
        """Returns whether a worker has put it up."""
        return _files.exists(self.path)

    @contextmanager
    def put_up_on_error(self) -> Iterator[None]:
        """Puts it up for an error of ours within `with`, instead of raising it."""
        try:
            yield
        except BulkInferencerError as error:
            _logger.info("This error ends the run.", exc_info=True)
            try:
                self.put_up(error)
            except (OSError, OutputError):
                raise error from None  # The engine has to bring it back, as it can.

    def put_up(self, error: BulkInferencerError) -> None:
        """Puts it up for an error.

        Raises:
          OSError, OutputError: it cannot be written.
        """
        kind = next(k for k in type(error).__mro__ if k.__module__ == errors.__name__)
        self._write(json.dumps([kind.__name__, str(error)]).encode())

    def _write(self, content: bytes) -> None:
        try:
            if self.room:
                # Padded, so that nothing is left of what another worker may be writing.
                _files.write_over(self.room, content.ljust(_ROOM_BYTES))
                _files.rename(self.room, self.path)
                return
        except OSError:  # Another worker has renamed it.
            if self.is_up():
                return
        _files.replace(self.path, content)

    def take_down(self) -> BulkInferencerError | None:
        """Removes it, if it is up, and returns the error. Call it once, in any case."""
        if self.room:
            _files.delete(self.room)
        if not self.is_up():
            return None
        with _files.open_to_read(self.path) as file:
            (kind, message), _ = json.JSONDecoder().raw_decode(file.read().decode())
        self.delete()
        error: BulkInferencerError = getattr(errors, kind)(message)
        return error

    def delete(self) -> None:
        """Removes it, if it is up, where nobody wants to know the error."""
        _files.delete(self.path)
