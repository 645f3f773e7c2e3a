"""The report on the penguins, on predictions that are made up."""

from __future__ import annotations

from pipelines.penguins.data import Data
from pipelines.penguins.report import Result, Said, compare_cascade

ADELIE, GENTOO = "Adelie", "Gentoo"
DATA = Data("/labelled", "/unlabelled", {"a": ADELIE, "b": GENTOO, "c": ADELIE})
RESULTS = [
    Result("a", (Said(ADELIE, 0.99),)),
    Result("b", (Said(ADELIE, 0.6), Said(GENTOO, 0.9))),
    Result("c", (Said(GENTOO, 0.98),)),
]


def test_cascade_report_shows_who_settled_which_bird():
    assert compare_cascade(RESULTS, DATA).table.splitlines() == [
        "bird       small says  probability   full says   probability   true species",
        "b          Adelie            0.600   Gentoo            0.900   Gentoo",
        "c          Gentoo            0.980                             Adelie         wrong",
        "a          Adelie            0.990                             Adelie",
        "",
        "                   birds  right  accuracy  of small alone",
        "settled by small       2      1      0.50            0.50",
        "escalated to full      1      1      1.00            0.00",
        "all                    3      2      0.67            0.33   (at least 0.90 is required)",
    ]


def test_cascade_report_says_what_is_wrong():
    assert compare_cascade(RESULTS[:1], DATA).problems == [
        ("The 1 predictions do not match the 3 birds in /unlabelled: there must be one for each."),
        "The accuracy on the held-back birds is 0.33, below 0.90. Train for more steps.",
        (
            "The small model settled 1 birds and handed on 0: it should do some of each. Change "
            "min_probability."
        ),
    ]
