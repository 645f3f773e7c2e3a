"""Artifact types of our own."""

from __future__ import annotations

from tfx.types.artifact import Artifact


class InferenceSummary(Artifact):
    """What a run did.

    File structure:
      - `summary.json`: counts per split and in total, the gate, the model; see
        `bulk_inferencer.Summary`.
      - `failures-<split>.jsonl.gz`: a line per record that could not be scored, with its input
        file, its number within the file (from 0) and the reason. Where there is a table of the
        predictions, there is one of the failures too, in files of the same format.
      - `statistics.json`: what the outputs are like; see `bulk_inferencer.results.Results`.
        `stats.tfrecord` holds the same for TensorFlow Data Validation.
      - `report.html`: a page about the run, unless `DataSpec.report` is false.
    """

    # Kubeflow accepts `package.Class` only, and imports the type by that name.
    TYPE_NAME = "bulk_inferencer.InferenceSummary"


class PredictionTable(Artifact):
    """Predictions as a table, with a row for each record that was scored.

    File structure:
      - `predictions-<split>-SSSSS-of-NNNNN.parquet`, or `.csv` or `.jsonl`: rows of one split, with
        the same columns in every file.
    """

    TYPE_NAME = "bulk_inferencer.PredictionTable"


class ModelComparison(Artifact):
    """How the outputs of several models differ, and the outcomes of an A/B test.

    File structure:
      - `comparison.json`: see `bulk_inferencer.Comparison`.
    """

    TYPE_NAME = "bulk_inferencer.ModelComparison"
