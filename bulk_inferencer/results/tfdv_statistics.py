"""Statistics of predictions as those of TensorFlow Data Validation, which compares and shows them.

    splits of the run     datasets                  each output is a feature
    train, eval      -->  All Examples, train, eval

Needs the extra `tfx`.
"""

from __future__ import annotations

import itertools
import math
import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bulk_inferencer import _extras, _files
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._layout import TFDV_FILE, names_models
from bulk_inferencer.results.statistics import OutputStatistics, Statistics

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import statistics_pb2

# What TFDV calls the dataset of all records, the only one that it validates.
_ALL = "All Examples"
# As many as TFDV makes.
_BUCKETS = 10
_MOST_TOP_VALUES = 20
_MOST_RANKS = 1000


def to_tfdv(statistics: Statistics) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Returns statistics as TFDV's, with all splits together as the dataset "All Examples" first.

    ```python
    import tensorflow_data_validation as tfdv

    tfdv.visualize_statistics(to_tfdv(results.statistics))
    ```

    Behind it, there is a dataset for each split. Outputs of several models are features named
    `<model>/<output>`. Records without an output are missing, and so are those that failed. Of
    several models, the number of examples is that of the model that got most of them.

    Floats are `FLOAT`, integers and booleans are `INT`, and texts are `STRING`. Infinities are
    "undefined" in histograms, which hold finite numbers alone. Of texts with too many classes, only
    the number of records is known.

    Raises:
      MissingExtraError: TFX is not installed.
    """
    _extras.require("tensorflow_metadata", "tfx", "Writing statistics for TFDV")
    from tensorflow_metadata.proto.v0 import statistics_pb2

    found = statistics_pb2.DatasetFeatureStatisticsList()
    splits = dict.fromkeys(split for own in statistics.outputs.values() for split in own)
    whole = {model: statistics.of(model) for model in statistics.outputs}
    for name, split in [(_ALL, None), *((own, own) for own in splits if own)]:
        dataset = found.datasets.add(name=name)
        for model, outputs in whole.items():
            types = {output: _type_of(own) for output, own in outputs.items()}
            own = outputs if split is None else statistics.of(model, split)
            failed = sum(statistics.failures_of(model, split).values())
            prefix = f"{model}/" if names_models(whole) else ""
            _add_outputs(dataset, types, own, failed, prefix)
    return found


def write_tfdv(statistics: Statistics, folder: str) -> None:
    """Writes `stats.tfrecord` into a folder, for `tfdv.load_statistics`; see `to_tfdv`.

    Raises:
      MissingExtraError: TFX is not installed.
    """
    content = tfrecord.frame([to_tfdv(statistics).SerializeToString()])
    _files.make_folder(folder)
    _files.replace(posixpath.join(folder, TFDV_FILE), content)


def _add_outputs(
    dataset: Any,
    types: Mapping[str, Any],
    outputs: Mapping[str, OutputStatistics],
    failed: int,
    prefix: str,
) -> None:
    """Adds the outputs of a model, of which `types` has all, to a dataset."""
    predicted = max((own.records + own.missing for own in outputs.values()), default=0)
    dataset.num_examples = max(dataset.num_examples, predicted + failed)
    for name, kind in types.items():
        own = outputs.get(name, OutputStatistics(missing=predicted))
        feature = dataset.features.add(type=kind)
        feature.path.step.append(prefix + name)
        stats = feature.string_stats if kind == feature.STRING else feature.num_stats
        _set_common(stats.common_stats, own, own.missing + failed)
        if kind == feature.STRING:
            _set_text(stats, own.classes or {})
        else:
            _set_numbers(stats, own)


def _type_of(output: OutputStatistics) -> Any:
    from tensorflow_metadata.proto.v0.statistics_pb2 import FeatureNameStatistics

    if output.records and not output.numbers:
        return FeatureNameStatistics.STRING
    # Floats of one value per record have no classes.
    is_whole = output.is_categorical or (
        output.classes is None and output.values == output.records > 0
    )
    return FeatureNameStatistics.INT if is_whole else FeatureNameStatistics.FLOAT


def _set_common(stats: Any, output: OutputStatistics, missing: int) -> None:
    stats.num_non_missing, stats.num_missing = output.records, missing
    if not output.records:
        return
    # How many texts a record has is not known, if it is not one.
    stats.tot_num_values = output.numbers or output.records
    mean = stats.tot_num_values / output.records
    stats.min_num_values, stats.max_num_values = math.floor(mean), math.ceil(mean)
    stats.avg_num_values = mean
    stats.num_values_histogram.type = stats.num_values_histogram.QUANTILES
    for _ in range(_BUCKETS):
        count = output.records / _BUCKETS
        stats.num_values_histogram.buckets.add(low_value=mean, high_value=mean, sample_count=count)


def _set_numbers(stats: Any, output: OutputStatistics) -> None:
    standard, quantiles = stats.histograms.add(), stats.histograms.add()
    standard.type, quantiles.type = standard.STANDARD, standard.QUANTILES
    for histogram in (standard, quantiles):
        histogram.num_nan, histogram.num_undefined = output.nan, output.infinite
    if not output.values:
        return
    stats.mean, stats.std_dev = output.mean, output.standard_deviation
    stats.min, stats.max, stats.median = output.minimum, output.maximum, output.quantile(0.5)
    stats.num_zeros = output.histogram.counts.get(0, 0)
    edges, counts = output.bars(_BUCKETS)
    _add_buckets(standard, edges, counts)
    edges = np.array([output.quantile(q) for q in np.linspace(0, 1, _BUCKETS + 1).tolist()])
    _add_buckets(quantiles, edges, np.full(_BUCKETS, output.values / _BUCKETS))


def _add_buckets(histogram: Any, edges: np.ndarray, counts: np.ndarray) -> None:
    for (low, high), count in zip(itertools.pairwise(edges.tolist()), counts.tolist(), strict=True):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=count)


def _set_text(stats: Any, classes: Mapping[str, int]) -> None:
    stats.unique = len(classes)
    total = sum(classes.values())
    if total:
        stats.avg_length = sum(len(n.encode()) * count for n, count in classes.items()) / total
    ranked = enumerate(itertools.islice(classes.items(), _MOST_RANKS))
    for rank, (name, count) in ranked:
        if rank < _MOST_TOP_VALUES:
            stats.top_values.add(value=name, frequency=count)
        stats.rank_histogram.buckets.add(
            low_rank=rank, high_rank=rank, label=name, sample_count=count
        )
