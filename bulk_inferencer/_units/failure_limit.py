"""How many records may fail before the run does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bulk_inferencer._checks import check_number
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.sinks.failure_list import Failure, FirstFailures
from bulk_inferencer.errors import FailureLimitError, prefix_errors

MOST_NAMED = 3  # failures, in messages


@dataclass(frozen=True)
class FailureLimit:
    """How many records of one split may fail. Exceeding either limit fails the run.

    ```python
    FailureLimit(max_count=100, max_fraction=0.05)
    ```

    Attributes:
      max_count: most records, or None for no limit.
      max_fraction: largest fraction of the records, from 0 to 1.

    Raises:
      SettingsError: a limit is out of its range.
    """

    max_count: int | None = None
    max_fraction: float = 0.01

    def __post_init__(self) -> None:
        if self.max_count is not None:
            advice = "Leave it out for no limit."
            check_number("FailureLimit.max_count", self.max_count, advice, 0, whole=True)
        check_number("FailureLimit.max_fraction", self.max_fraction, "One percent is 0.01.", 0, 1)

    def is_exceeded(self, failed: int, read: int) -> bool:
        """Returns whether more records failed than may, of all records of a split."""
        # As a quotient: 0.29 * 100 is less than 29 in floating point.
        is_too_large = failed / max(1, read) > self.max_fraction
        return is_too_large or self.is_surely_exceeded(failed)

    def is_surely_exceeded(self, failed: int) -> bool:
        """Returns whether so many failures are too many for a split of any size."""
        is_too_many = self.max_count is not None and failed > self.max_count
        return is_too_many or (failed > 0 and self.max_fraction == 0)


def check_failure_limit(
    limit: FailureLimit,
    manifests: Sequence[Manifest],
    labels: Mapping[str, str],
    first: FirstFailures,
) -> None:
    """Checks the failures of each model, and of records that reached none, split by split.

    Args:
      limit: how many there may be.
      manifests: those of all units.
      labels: what messages about each model begin with.
      first: failures to name.

    Raises:
      FailureLimitError: there are more than the limit allows.
    """
    for split in dict.fromkeys(manifest.split for manifest in manifests):
        units = [manifest for manifest in manifests if manifest.split == split]
        for branch, label in labels.items():
            accounts = [unit.branches[branch] for unit in units]
            failed = sum(account.examples_failed for account in accounts)
            read = sum(account.examples_read for account in accounts)
            with prefix_errors(label):
                _check(limit, split, branch, failed, read, first.get((split, branch), ()))
        unrouted = sum(unit.unrouted for unit in units)
        read = sum(unit.examples_read for unit in units)
        _check(limit, split, None, unrouted, read, first.get((split, None), ()))


def _check(
    limit: FailureLimit,
    split: str,
    branch: str | None,
    failed: int,
    read: int,
    first: Sequence[Failure],
) -> None:
    if limit.is_exceeded(failed, read):
        raise limit_error(
            limit, f"{failed} of {read} records failed in {where(split, branch)}.", first
        )


def where(split: str, branch: str | None) -> str:
    """Returns where records failed, for messages: in a model, or before they reached one."""
    return f"split '{split}'" + ("" if branch else " before they reached a model")


def limit_error(limit: FailureLimit, what: str, first: Sequence[Failure]) -> FailureLimitError:
    """Returns the error that says what happened, what the limit is and what failed first."""
    allowed = f"at most {limit.max_fraction:.2%}"
    if limit.max_count is not None:
        allowed += f" and at most {limit.max_count}"
    reasons = "\n".join(f"  {f.file}, record {f.record}: {f.reason}" for f in first[:MOST_NAMED])
    return FailureLimitError(
        f"{what} FailureLimit allows {allowed}. The first failures:\n{reasons}\nFix the records or "
        f"the model, or raise the limit to keep the failures in failed_examples."
    )
