"""That TFDV reads, shows and validates the statistics of predictions."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.utils.display_util import get_statistics_html
from tensorflow_metadata.proto.v0.statistics_pb2 import FeatureNameStatistics

from bulk_inferencer.errors import MissingExtraError
from bulk_inferencer.results.describe import describe
from bulk_inferencer.results.statistics import OutputStatistics, Statistics
from bulk_inferencer.results.tfdv_statistics import to_tfdv, write_tfdv
from tests.helpers import exactly

LONE = "inference_result"


def outputs(shift=0.0, share=0.5, records=4_000):
    rng = np.random.default_rng(0)
    return {
        "y": rng.normal(size=records) + shift,
        "text": np.where(rng.random(records) < share, b"yes", b"no").astype(object),
        "is_big": rng.random(records) < share,
        "scores": rng.normal(size=(records, 3)) + shift,
        "constant": np.full(records, 2.0 + shift),
    }


def statistics_of(model=LONE, failures=0, **splits):
    return Statistics(
        {model: {s: {n: describe(v) for n, v in own.items()} for s, own in splits.items()}},
        {model: {split: {"E": failures} for split in splits}} if failures else {},
    )


def features_of(dataset):
    return {feature.path.step[0]: feature for feature in dataset.features}


@pytest.fixture
def loaded(tmp_path):
    def load(statistics):
        write_tfdv(statistics, str(tmp_path))
        return tfdv.load_statistics(str(tmp_path / "stats.tfrecord"))

    return load


def test_tfdv_loads_all_splits_together_and_each_of_them(loaded):
    train, evaluated = outputs(), outputs(records=1_000)
    found = loaded(statistics_of(train=train, eval=evaluated, failures=3))
    sizes = {dataset.name: dataset.num_examples for dataset in found.datasets}
    assert sizes == {"All Examples": 5_006, "train": 4_003, "eval": 1_003}
    features = features_of(found.datasets[1])
    y = features["y"].num_stats
    assert y.common_stats.num_non_missing == 4_000
    assert y.common_stats.num_missing == 3
    assert (y.min, y.max) == (train["y"].min(), train["y"].max())
    assert (y.mean, y.std_dev) == pytest.approx((train["y"].mean(), train["y"].std()))
    assert y.median == pytest.approx(np.median(train["y"]), abs=0.01)
    for histogram in y.histograms:
        assert sum(bucket.sample_count for bucket in histogram.buckets) == pytest.approx(4_000)
    expected, edges = np.histogram(train["y"], 10)
    standard, quantiles = y.histograms
    assert [bucket.low_value for bucket in standard.buckets] == pytest.approx(edges[:-1].tolist())
    counts = [bucket.sample_count for bucket in standard.buckets]
    assert counts == pytest.approx(expected.tolist(), rel=0.1, abs=10)
    deciles = np.quantile(train["y"], np.linspace(0.1, 1, 10)).tolist()
    assert [own.high_value for own in quantiles.buckets] == pytest.approx(deciles, abs=0.01)
    text = features["text"].string_stats
    yes = int((train["text"] == b"yes").sum())
    assert (text.unique, {own.value: own.frequency for own in text.top_values}) == (
        2,
        {"yes": yes, "no": 4_000 - yes},
    )
    assert [own.label for own in text.rank_histogram.buckets] == [v.value for v in text.top_values]
    assert text.avg_length == pytest.approx((3 * yes + 2 * (4_000 - yes)) / 4_000)
    assert features["is_big"].num_stats.num_zeros == int((~train["is_big"]).sum())
    scores = features["scores"].num_stats.common_stats
    assert (scores.tot_num_values, scores.min_num_values, scores.max_num_values) == (12_000, 3, 3)
    kinds = {name: FeatureNameStatistics.Type.Name(own.type) for name, own in features.items()}
    assert kinds == {
        "y": "FLOAT",
        "scores": "FLOAT",
        "constant": "FLOAT",
        "text": "STRING",
        "is_big": "INT",
    }


def test_outputs_of_several_models_carry_their_names_and_one_type_in_all_splits():
    one = statistics_of("five", a={"y": np.array([1, 2]), "t": np.array([b"x"] * 2, object)}, b={})
    two = statistics_of("ten", b={"y": np.array([1.0])})
    datasets = {own.name: features_of(own) for own in to_tfdv(one.merge(two)).datasets}
    assert list(datasets) == ["All Examples", "a", "b"]
    for features in datasets.values():
        kinds = {name: feature.type for name, feature in features.items()}
        assert kinds == {"five/y": 0, "five/t": 2, "ten/y": 1}
    assert datasets["b"]["five/t"].string_stats.common_stats.num_non_missing == 0
    assert len(to_tfdv(Statistics()).datasets) == 1


def test_numbers_that_are_not_finite_and_classes_that_are_too_many_are_counted():
    odd = {
        "nan": np.array([np.nan, np.inf, -np.inf]),
        "ids": np.array([b"%d" % i for i in range(20_000)], object),
        "numbers": np.arange(20_000),
    }
    features = features_of(to_tfdv(statistics_of(a=odd)).datasets[0])
    histogram = features["nan"].num_stats.histograms[0]
    assert (histogram.num_nan, histogram.num_undefined, len(histogram.buckets)) == (1, 2, 0)
    ids = features["ids"].string_stats
    assert (ids.common_stats.num_non_missing, ids.unique, len(ids.top_values)) == (20_000, 0, 0)
    assert features["numbers"].type == FeatureNameStatistics.INT
    empty = {"never": OutputStatistics(missing=5)}
    (never,) = to_tfdv(Statistics({LONE: {"a": empty}})).datasets[0].features
    assert never.num_stats.common_stats.num_missing == 5


def test_tfdv_shows_the_statistics(loaded):
    found = loaded(statistics_of(train=outputs(), eval=outputs(3)))
    html = get_statistics_html(found, found, "today", "yesterday")
    assert "facets-overview" in html
    assert "Empty dataset" not in html


@pytest.mark.parametrize(
    ("name", "comparator"),
    [
        ("y", "jensen_shannon_divergence"),
        ("scores", "jensen_shannon_divergence"),
        ("constant", "jensen_shannon_divergence"),
        ("is_big", "jensen_shannon_divergence"),
        ("text", "infinity_norm"),
        ("text", "jensen_shannon_divergence"),
    ],
)
def test_tfdv_finds_predictions_that_drift_and_no_others(loaded, name, comparator):
    before = loaded(statistics_of(train=outputs()))
    schema = tfdv.infer_schema(before)
    feature = tfdv.get_feature(schema, name)
    getattr(feature.drift_comparator, comparator).threshold = 0.1
    for now, expected in [(outputs(), []), (outputs(3.0, share=0.95), [name])]:
        found = tfdv.validate_statistics(
            loaded(statistics_of(train=now)), schema, previous_statistics=before
        )
        assert list(found.anomaly_info) == expected
        measured = found.drift_skew_info[0].drift_measurements[0].value
        assert (measured == pytest.approx(0, abs=1e-6)) == (expected == [])


def test_without_tfx_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_metadata", None)  # as if it could not be found
    message = (
        "Writing statistics for TFDV needs tensorflow_metadata, which is not installed. Install it "
        "with: pip install 'bulk-inferencer[tfx]'"
    )
    with pytest.raises(MissingExtraError, match=exactly(message)):
        to_tfdv(Statistics())
