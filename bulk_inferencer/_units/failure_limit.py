"""How many records may fail before the run does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bulk_inferencer._units.manifest import Failure, Manifest, unrouted_by_split
from bulk_inferencer.errors import FailureLimitError, SettingsError
from bulk_inferencer.results.summary import Counts


@dataclass(frozen=True)
class FailureLimit:
    """How many records of one split may fail; exceeding either limit fails the run.

    Attributes:
      max_count: most records, or None for no limit.
      max_fraction: largest share of the records, from 0 to 1.

    Raises:
      SettingsError: a limit is out of its range.
    """

    max_count: int | None = None
    max_fraction: float = 0.01

    def __post_init__(self) -> None:
        if self.max_count is not None and self.max_count < 0:
            raise SettingsError(
                f"Expected at least 0 in FailureLimit.max_count, got {self.max_count}. Leave it "
                f"out for no limit."
            )
        if not 0 <= self.max_fraction <= 1:
            raise SettingsError(
                f"Expected a fraction from 0 to 1 in FailureLimit.max_fraction, got "
                f"{self.max_fraction}. One percent is 0.01."
            )


def check_failure_limit(
    limit: FailureLimit,
    counts_by_model: Mapping[str, Mapping[str, Counts]],
    manifests: Sequence[Manifest],
) -> None:
    """Checks the failures of each split: those of each model, and those that went to none.

    Args:
      limit: how many there may be.
      counts_by_model: counts by model and split.
      manifests: what units say of themselves.

    Raises:
      FailureLimitError: there are more.
    """
    for model, splits in counts_by_model.items():
        for split, counts in splits.items():
            where = f"of split '{split}'" + (f" for model '{model}'" if model else "")
            first = _first_failures(manifests, split, model)
            _check(limit, where, counts.examples_failed, counts.examples_read, first)
    for split, unrouted in unrouted_by_split(manifests).items():
        where = f"of split '{split}', before they reach a model,"
        read = sum(manifest.examples_read for manifest in manifests if manifest.split == split)
        _check(limit, where, unrouted, read, _first_failures(manifests, split, ""))


def _first_failures(manifests: Sequence[Manifest], split: str, model: str) -> list[Failure]:
    of_split = (manifest for manifest in manifests if manifest.split == split)
    return [f for manifest in of_split for f in manifest.first_failures if f.model == model]


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
            f"Expected {allowed} of the records {where} to fail, got "
            f"{failed} of {read}. The first ones:\n{reasons}\n"
            f"Mend the records or the model, or raise the failure_limit to keep the "
            f"failures in failed_examples."
        )
