"""Every error that this package raises on purpose.

A message says what was expected, what was found, where, and what cures it. The tree is flat:
catch `BulkInferencerError` for all of them, or the one that you can do something about.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class BulkInferencerError(Exception):
    """Base class of all errors of this package."""


class SettingsError(BulkInferencerError, ValueError):
    """A setting that its author has to correct."""


class InputError(BulkInferencerError):
    """Examples that are missing, unreadable or in a format that cannot be scored."""


class ModelError(BulkInferencerError):
    """A model that cannot be found, loaded or called as asked."""


class GateError(BulkInferencerError):
    """A model that was not blessed, under the gate policy `FAIL`."""


class FailureLimitError(BulkInferencerError):
    """More records of a split failed than the failure limit allows."""


class ReconciliationError(BulkInferencerError):
    """Counts, shards or sizes that do not add up: the outputs would not be complete."""


class HookError(BulkInferencerError):
    """A hook that does not return what it has to."""


class EndpointError(BulkInferencerError):
    """A model server that does not answer, or not as it should."""


class FailedRecordError(BulkInferencerError):
    """A record that could not be scored, where failures were not asked for as an output."""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Says where an error of ours was raised, if that is not said already.

    Args:
      where: what stands before the message, such as `Model 'five'`; empty to change nothing.
    """
    try:
        yield
    except BulkInferencerError as error:
        if not where or str(error).startswith(where):
            raise
        raise type(error)(f"{where}: {error}") from error
