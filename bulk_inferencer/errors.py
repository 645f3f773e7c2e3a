"""Every error that this package raises on purpose.

A message says what was expected, what was found and where, and how to fix it. The tree is flat:
catch `BulkInferencerError` for all of them, or the one that you can do something about.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class BulkInferencerError(Exception):
    """Base class of all errors of this package."""


class SettingsError(BulkInferencerError, ValueError):
    """A setting that is wrong or contradicts another."""


class InputError(BulkInferencerError):
    """Examples that are missing, unreadable or in a format that cannot be scored."""


class OutputError(BulkInferencerError):
    """A file that cannot be written, as on a full disk."""


class ModelError(BulkInferencerError):
    """A model that cannot be found, loaded or called as asked."""


class GateError(BulkInferencerError):
    """A model that was not blessed, under the gate policy `FAIL`."""


class FolderInUseError(BulkInferencerError):
    """A folder of results that another run is writing to."""


class FailureLimitError(BulkInferencerError):
    """More records of a split failed than the failure limit allows."""


class ReconciliationError(BulkInferencerError):
    """Counts, shards or sizes that do not add up, so that the outputs would be incomplete."""


class HookError(BulkInferencerError):
    """A hook that returned something other than its contract asks for."""


class EndpointError(BulkInferencerError):
    """A model server that does not answer, or answers wrongly."""


class WorkerError(BulkInferencerError):
    """A process that runs units and died."""


class FailedRecordError(BulkInferencerError):
    """A record that could not be scored, in a transform without a separate output for failures."""


class MissingExtraError(BulkInferencerError, ImportError):
    """A package that is not installed because it belongs to an extra of this one."""


@contextmanager
def prefix_errors(prefix: str) -> Iterator[None]:
    """Begins messages of our errors with `prefix: `, such as `Model 'five': `.

    A message that already begins with the prefix stays as it is, as do all for an empty prefix.
    """
    try:
        yield
    except BulkInferencerError as error:
        if not prefix or str(error).startswith(prefix):
            raise
        raise type(error)(f"{prefix}: {error}") from error
