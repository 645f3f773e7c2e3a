"""The account that ends every case: which predictions were lost, and which are there twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

from bulk_inferencer.results.reader import read_predictions

# What is promised: the headings of docs/reliability.md.
ADDS_UP = "Counts add up"
ALL_OR_NOTHING = "All or nothing"
ONE_RUN = "One run per folder"
RESUMES = "A run goes on where it stopped"
NOTICES = "Damaged inputs are noticed"
SERVERS = "Faults of a server cost no records"
PROMISES = (ADDS_UP, ALL_OR_NOTHING, ONE_RUN, RESUMES, NOTICES, SERVERS)


def lost_and_doubled(
    expected_records: Iterable[bytes], folder: str | os.PathLike[str]
) -> tuple[int, int]:
    """Returns how many records have no prediction in a folder, and how many are too many there.

    Args:
      expected_records: the records that should be there, each as often as it was read.
      folder: the folder of a run's PredictionLogs, read as users read it.

    Raises:
      InputError: the folder holds no complete results.
    """
    return difference(expected_records, (p.record for p in read_predictions(folder)))


def difference(expected: Iterable[bytes], found: Iterable[bytes]) -> tuple[int, int]:
    """Returns how many records are missing from those found, and how many are too many."""
    wanted, there = Counter(expected), Counter(found)
    return (wanted - there).total(), (there - wanted).total()
