"""What the tests of units share: models that are functions, and units of a few records."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer._models.scorer import Scorer
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer._units.commit import final_names, placed
from bulk_inferencer._units.inputs import list_files
from bulk_inferencer._units.plan import Unit, plan_units
from bulk_inferencer._units.run import Scoring, run_unit
from bulk_inferencer._units.run_file import begin_run
from bulk_inferencer._units.sinks.failed_examples import FailedExamples
from bulk_inferencer._units.sinks.failure_list import FailureList
from bulk_inferencer._units.sinks.output_examples import OutputExamples
from bulk_inferencer._units.sinks.prediction_logs import PredictionLogs
from bulk_inferencer._units.stop_sign import StopSign
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.job import InferenceJob, Outputs, unit_task
from tests.helpers import Lengths, features_of, read_tfrecord, write_tfrecord


class Function(Lengths):
    """A predictor that calls a function with each batch, and keeps the sizes of batches."""

    def __init__(self, function):
        self.signatures = (Signature("serving_default", PREDICT),)
        self.sizes = []
        self._function = function

    def predict(self, batch):
        self.sizes.append(len(batch))
        returned = self._function(batch)
        return returned if isinstance(returned, Prediction) else Prediction(returned)


def lengths_at_most(limit):
    """Returns a predictor of lengths that refuses longer records."""

    def lengths(batch):
        if max(map(len, batch)) > limit:
            raise ValueError("too long")
        return Lengths().predict(batch)

    return Function(lengths)


def x_of(record):
    return features_of(record)["x"][0]


def sinks_in(folder, models, columns=(), *, is_split=False, replace_features=False):
    """Returns the sinks that most jobs have, below `folder`."""
    named = list(models) != ["inference_result"]
    sinks = [PredictionLogs(name, f"{folder}/{name}") for name in models]
    sinks.append(FailedExamples(f"{folder}/failed_examples"))
    sinks.append(FailureList(f"{folder}/summary", named))
    if columns:
        folder = f"{folder}/output_examples"
        sinks.append(OutputExamples(folder, columns, replace_features, is_split, named))
    return sinks


def score(unit, models, sinks, *, bounds=None, routing=None, first_records=None):
    """Runs a unit: `models` are predictors by name; gives its files their final names."""
    first_records = first_records or {}
    scorers = {
        name: LogScorer(Scorer(predictor, first_records.get(name)), label=f"Model '{name}'")
        for name, predictor in models.items()
    }
    manifest = run_unit(unit, Scoring(scorers, bounds or BatchBounds(), routing), sinks)
    finals = final_names(sinks, [unit], [manifest])
    with placed(finals, keeps_shards=False):
        paths = {shard: path for path, shard in finals.items()}
    accounts = {
        name: replace(a, shards=tuple(replace(s, path=paths.get(s, s.path)) for s in a.shards))
        for name, a in manifest.sinks.items()
    }
    return replace(manifest, sinks=accounts)


def input_file(path):
    return InputFile(str(path), os.path.getsize(path))


def unit_of(*paths):
    return Unit("s", 0, 1, tuple(map(input_file, paths)))


def score_records(folder, models, records, columns=(), *, more_sinks=(), routing=None, **settings):
    """Scores records as one unit of one file, with results in `out/`; returns its manifest."""
    path = write_tfrecord(folder / "in/0.gz", records)
    sinks = sinks_in(f"{folder}/out", models, columns, is_split=routing is not None)
    return score(unit_of(path), models, [*sinks, *more_sinks], routing=routing, **settings)


def worker_in(folder, model, files=1, records=(b"good", b"bad"), **settings):
    """Returns a worker of a run that goes on, and its units: one for each file of records.

    Its manifests are in `units/`, and its results wait in `out/`.
    """
    for i in range(files):
        write_tfrecord(folder / f"in/{i}.gz", records)
    splits, outputs = {"s": [f"{folder}/in/*"]}, Outputs.under(f"{folder}/out")
    job = InferenceJob(splits=splits, model=model, outputs=outputs, **settings)
    manifests = f"{folder}/units"
    run_file, stop = begin_run(manifests), StopSign.in_folder(manifests)
    task = replace(unit_task(job), manifests_folder=manifests, run_file=run_file)
    return UnitWorker(task, stop), plan_units({"s": list_files("s", splits["s"])})


def failures_of(manifest):
    """Returns the lines of a unit's list of failures."""
    (shard,) = manifest.sinks["failures"].shards
    with gzip.open(shard.path) as file:
        return [json.loads(line) for line in file]


def records_of(manifest, sink):
    """Returns the records that a sink wrote."""
    (shard,) = manifest.sinks[sink].shards
    return read_tfrecord(shard.path)


def examples_of(manifest):
    return list(map(features_of, records_of(manifest, "output_examples")))
