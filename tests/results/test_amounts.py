"""Amounts as people write them."""

from __future__ import annotations

import math

import pytest

from bulk_inferencer.results.amounts import (
    NOTHING,
    about,
    counted,
    duration,
    in_bytes,
    in_time,
    in_words,
    share,
)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (counted(1, "record"), "1 record"),
        (counted(2000, "record"), "2,000 records"),
        (counted(2, "batch", "batches"), "2 batches"),
        (about(7), "7"),
        (about(212_980), "213,000"),
        (in_bytes(0), "0 bytes"),
        (in_bytes(1), "1 byte"),
        (in_bytes(999), "999 bytes"),
        (in_bytes(999_960), "1.0 MB"),
        (in_bytes(2e18), "2,000.0 PB"),
        (in_bytes(1, 999_960), "0.0 of 1.0 MB"),
        (in_time(59.6), "1:00"),
        (in_time(3723), "1:02:03"),
        (in_words(0.04), "0 seconds"),
        (in_words(1.0), "1 second"),
        (in_words(9.97), "10 seconds"),
        (in_words(150), "2.5 minutes"),
        (in_words(3 * 86400), "3 days"),
        (duration(0), "0 s"),
        (duration(0.0004), "< 1 ms"),
        (duration(0.25), "250 ms"),
        (duration(5), "5.0 s"),
        (duration(59.97), "1 min 0 s"),
        (duration(125), "2 min 5 s"),
        (duration(3600 * 30 + 61), "30 h 1 min"),
        (duration(math.nan), NOTHING),
    ],
)
def test_amounts_are_as_people_write_them(found, expected):
    assert found == expected


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        *((0, 7, "0 %"), (7, 7, "100 %"), (1, 3, "33.3 %"), (1, 4, "25 %"), (1, 500, "0.2 %")),
        *((1, 10**6, "< 0.01 %"), (10**6 - 1, 10**6, "> 99.99 %"), (0, 0, NOTHING)),
    ],
)
def test_share_is_none_or_all_only_if_it_is_exactly(part, whole, text):
    assert share(part, whole) == text
