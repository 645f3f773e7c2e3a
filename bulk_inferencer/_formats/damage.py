"""What is wrong with a file that cannot be read, and how messages say so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from bulk_inferencer.errors import InputError

WRITE_AGAIN = "Write the file again, or leave it out of the inputs."
_COMPRESSED_NAMES = (".gz", ".gzip", ".zlib")


class DamagedError(Exception):
    """What is wrong with the content of a file, and what to do about it."""

    def __init__(self, message: str, advice: str = WRITE_AGAIN) -> None:
        super().__init__(message)
        self.advice = advice


@contextlib.contextmanager
def reading(path: str, as_what: str, position: Callable[[], str]) -> Iterator[None]:
    """Raises an InputError, with the path, where a file cannot be read.

    Errors that may be transient, such as a network's, are raised unchanged, so that the runner
    retries.

    Args:
      path: the file.
      as_what: what it is read as, such as `TFRecord`.
      position: returns how far it was read, such as `after record 7`.
    """
    try:
        yield
    except PermissionError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror}. Let this process read it, or leave it out."
        ) from error
    except (FileNotFoundError, IsADirectoryError, DamagedError) as error:
        advice = getattr(error, "advice", WRITE_AGAIN)
        raise InputError(
            f"Cannot read {path} as {as_what}: {error} ({position()}). {advice}"
        ) from error


def too_long(length: int, most: int) -> DamagedError:
    """Returns the error for a record that is longer than records may be."""
    return DamagedError(
        f"the next record has {length} bytes, but BatchBounds.max_record_bytes is {most}",
        f"If records are this long, raise the setting. If not, the file is damaged. {WRITE_AGAIN}",
    )


def check_size(path: str, found_bytes: int, listed_bytes: int | None = None) -> None:
    """Checks the size of a file that has been read, or listed.

    Raises:
      InputError: it is another than the one that it should have, or compressed and empty.
    """
    if listed_bytes is not None and found_bytes != listed_bytes:
        raise InputError(
            f"{path} had {listed_bytes} bytes when the run began, and {found_bytes} when it was "
            f"read. Run again when nothing writes to it any more."
        )
    if not found_bytes and path.lower().endswith(_COMPRESSED_NAMES):
        raise InputError(
            f"{path} is empty, although a compressed file never is, not even one without records. "
            f"{WRITE_AGAIN}"
        )
