"""How many records may fail before the run does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bulk_inferencer._checks import check_number
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.sinks.failure_list import Failure, first_failures
from bulk_inferencer.errors import FailureLimitError, prefix_errors


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


def check_failure_limit(
    limit: FailureLimit, manifests: Sequence[Manifest], labels: Mapping[str, str]
) -> None:
    """Checks the failures of each model, and of records that reached none, split by split.

    Raises:
      FailureLimitError: there are more than the limit allows.
    """
    for split in dict.fromkeys(manifest.split for manifest in manifests):
        units = [manifest for manifest in manifests if manifest.split == split]
        first = [failure for unit in units for failure in first_failures(unit)]
        for branch, label in labels.items():
            accounts = [unit.branches[branch] for unit in units]
            failed = sum(account.examples_failed for account in accounts)
            read = sum(account.examples_read for account in accounts)
            with prefix_errors(label):
                own = [failure for failure in first if failure.branch == branch]
                _check(limit, f"split '{split}'", failed, read, own)
        unrouted = sum(unit.unrouted for unit in units)
        read = sum(unit.examples_read for unit in units)
        lost = [failure for failure in first if failure.branch is None]
        _check(limit, f"split '{split}' before they reached a model", unrouted, read, lost)


def _check(
    limit: FailureLimit, where: str, failed: int, read: int, first: Sequence[Failure]
) -> None:
    too_many = limit.max_count is not None and failed > limit.max_count
    # As a quotient: 0.29 * 100 is less than 29 in floating point.
    too_large = failed / max(1, read) > limit.max_fraction
    if too_many or too_large:
        allowed = f"at most {limit.max_fraction:.2%}"
        if limit.max_count is not None:
            allowed += f" and at most {limit.max_count}"
        reasons = "\n".join(f"  {f.file}, record {f.record}: {f.reason}" for f in first[:3])
        raise FailureLimitError(
            f"{failed} of {read} records failed in {where}. FailureLimit allows {allowed}. The "
            f"first failures:\n{reasons}\nFix the records or the model, or raise the limit to keep "
            f"the failures in failed_examples."
        )
