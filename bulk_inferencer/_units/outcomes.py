"""Business outcomes of an A/B test: the mean for each model."""

from __future__ import annotations

import itertools

from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results.comparison import Outcome
from bulk_inferencer.results.outcomes import Outcomes, outcome_of, read_outcomes


def read_outcomes_again(path: str, digest: str) -> Outcomes:
    """Reads the table of outcomes that another process has read; units know its rows by number.

    Raises:
      InputError: the content of the file has changed since then.
    """
    outcomes = read_outcomes(path)
    if outcomes.digest != digest:
        raise InputError(
            f"The content of {path} has changed since the run began. Run again, and leave the file "
            f"alone until the run is over."
        )
    return outcomes


def check_outcomes(path: str, routing: SplitRouting | None) -> None:
    """Checks that the routing tells which model the outcome of a key belongs to.

    Raises:
      SettingsError: it does not.
    """
    if not (routing and routing.split_key):
        raise SettingsError(
            f"The outcomes in {path} need a SplitRouting with a split_key, by which their keys are "
            f"found. Set SplitRouting.split_key to the feature that holds the key."
        )


def outcomes_by_branch(
    outcomes: Outcomes, matched: int, routing: SplitRouting
) -> dict[str, Outcome]:
    """Returns the outcome of each model, in the order of the routing's weights.

    Args:
      outcomes: the table.
      matched: the rows whose keys were scored, as bits: bit i stands for row i. The union of
        several units is `|` of theirs.
      routing: which model each key belongs to.
    """
    values: dict[str, list[float]] = {branch: [] for branch in routing.running}
    # As text: shifting a large integer once per row would take quadratic time.
    is_matched = (bit == "1" for bit in reversed(f"{matched:b}"))
    rows = zip(outcomes.keys, outcomes.values, strict=True)
    for key, value in itertools.compress(rows, is_matched):
        values[routing.model_of(key.encode())].append(value)
    return {branch: outcome_of(found) for branch, found in values.items()}
