"""The times tables: their data, and their reports on predictions that are made up."""

from __future__ import annotations

import math

import pytest

from bulk_inferencer.results.comparison import OutputComparison
from pipelines.five_times_table import pipeline
from pipelines.five_times_table.data import Data, make_data
from pipelines.five_times_table.report import TimesTable, compare_branch, compare_cascade
from tests.components.tfx_helpers import LocalPipeline
from tests.helpers import features_of, read_tfrecord

XS = (-100.0, 0.0, 100.0)
DATA = Data("/labelled", "/unlabelled", XS)


def times(factor, name="y", xs=XS, **by_x):
    """Returns what a perfect model predicts; `x100=` is another y for x = 100."""
    return TimesTable(factor, [(x, by_x.get(f"x{x:g}", factor * x)) for x in xs], name)


def difference(mean, largest):
    """Returns what `comparison.json` says of three records."""
    return OutputComparison(3, 0, 3, 0, 3 * mean, largest, (), (), 0)


def test_branch_report_shows_the_models_side_by_side():
    in_file = difference(mean=1000 / 3, largest=500.0)
    report = compare_branch(times(5, "five"), times(10, "ten"), in_file, DATA)

    assert report.table.splitlines() == [
        "       x           five            ten",
        "  -100.0      -500.0000     -1000.0000",
        "     0.0         0.0000         0.0000",
        "   100.0       500.0000      1000.0000",
        "",
        "largest |five - 5x|: 0.000000 (allowed: 10, 1 % of the range of five)",
        "largest |ten - 10x|: 0.000000 (allowed: 20, 1 % of the range of ten)",
        "|five - ten| in comparison.json: mean 333.3333, largest 500.0000",
    ]
    assert report.problems == []


def test_branch_report_says_what_is_wrong():
    in_file = difference(mean=1.0, largest=2.0)
    missing = "The 0 predictions do not match the 3 x in /unlabelled: there must be one for each."
    has = "|five - ten| in comparison.json has a mean of 1 and a maximum of 2; the predictions have"

    wrong = compare_branch(times(5, "five"), times(10, "ten", x100=500.0), in_file, DATA)
    assert wrong.problems == [
        "ten: y = 500 for x = 100 is more than 20 away from 10x. Train for more steps.",
        f"{has} 166.667 and 500.",
    ]
    empty = compare_branch(times(5, "five", xs=()), times(10, "ten", xs=()), in_file, DATA)
    assert empty.problems == [f"five: {missing}", f"ten: {missing}", f"{has} nan and nan."]
    assert "largest |five - 5x|: unknown, nothing was predicted (allowed: 10" in empty.table


def test_cascade_report_shows_both_stages_and_what_is_wrong():
    report = compare_cascade(times(5), times(50, x100=5000.5), DATA)

    assert report.table.splitlines() == [
        "       x        50x         five/y              y",
        "  -100.0    -5000.0      -500.0000     -5000.0000",
        "     0.0        0.0         0.0000         0.0000",
        "   100.0     5000.0       500.0000      5000.5000",
        "",
        "largest |y - 50x|: 0.500000 (allowed: 100, 1 % of the range of y)",
        "ten learnt from x of -100 to 100 and gets -500 to 500 here: a straight line goes on",
    ]
    assert report.problems == []
    for y in (500.0, math.nan):
        assert compare_cascade(times(5), times(50, x100=y), DATA).problems == [
            f"y = {y:g} for x = 100 is more than 100 away from 50x. Train for more steps."
        ]


# Data


def test_unknown_data_format_and_too_few_examples_are_refused(tmp_path):
    message = r"^data_format must be csv or tfrecord, not 'parquet'\.$"
    with pytest.raises(ValueError, match=message):
        make_data(str(tmp_path), data_format="parquet")
    with pytest.raises(ValueError, match=message):
        pipeline.read_examples("/d", "/i", data_format="parquet")
    with pytest.raises(ValueError, match=r"^unlabelled must be at least 2, not 1\.$"):
        make_data(str(tmp_path), unlabelled=1)


@pytest.mark.slow
def test_examples_can_come_from_tfrecord(tmp_path):
    data = make_data(str(tmp_path / "data"), data_format="tfrecord")
    nodes = pipeline.read_examples(data.data_root, data.inference_data_root, "tfrecord")

    LocalPipeline(tmp_path).run(nodes.example_gen, nodes.inference_example_gen)

    def examples_of(node):
        paths = tmp_path.glob(f"artifacts/{node.id}/examples/*/Split-*/*.gz")
        return [features_of(record) for path in paths for record in read_tfrecord(path)]

    unlabelled = sorted(examples_of(nodes.inference_example_gen), key=lambda it: it["x"])
    assert unlabelled == [{"x": [pytest.approx(x)]} for x in data.xs]
    labelled = examples_of(nodes.example_gen)
    assert len(labelled) == 1000
    for features in labelled:
        x, five, ten = (features[name][0] for name in ("x", "five", "ten"))
        assert (five, ten) == (pytest.approx(5 * x), pytest.approx(10 * x))
