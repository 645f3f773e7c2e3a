"""Units on workers. As little logic as possible in this module: see `units/run.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.utils.shared import Shared

from bulk_inferencer import files
from bulk_inferencer.beam import metrics
from bulk_inferencer.models.batching import BatchBounds, Scorer
from bulk_inferencer.models.predictor import Model
from bulk_inferencer.units.manifest import Manifest
from bulk_inferencer.units.plan import Unit
from bulk_inferencer.units.run import Outputs, run_unit


class RunUnits(beam.PTransform):
    """Runs each unit from end to end on one worker thread.

    The input is the pipeline's begin, the output a `PCollection[Manifest]`.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        model: Model,
        record_format: str,
        bounds: BatchBounds,
        outputs: Outputs,
    ) -> None:
        super().__init__()
        self._units = units
        self._run_unit = _RunUnit(model, record_format, bounds, outputs)

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[Manifest]:
        return (
            begin
            | "Units" >> beam.Create(self._units)
            | "Distribute" >> beam.Reshuffle()
            | "RunUnit" >> beam.ParDo(self._run_unit).with_output_types(Manifest)
        )


class WriteManifests(beam.PTransform):
    """Writes all manifests into one file, a line each, for the launcher to read.

    The input is a `PCollection[Manifest]`. Unlike counters, the elements of a collection are
    exactly those of committed attempts on every runner.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def expand(self, manifests: beam.PCollection[Manifest]) -> beam.PCollection[None]:
        return (
            manifests
            | "ToJson" >> beam.Map(Manifest.to_json).with_output_types(str)
            | "Gather" >> beam.combiners.ToList()
            | "Write" >> beam.Map(_write_lines, self._path)
        )


class _RunUnit(beam.DoFn):
    def __init__(
        self,
        model: Model,
        record_format: str,
        bounds: BatchBounds,
        outputs: Outputs,
    ) -> None:
        self._model = model
        self._record_format = record_format
        self._bounds = bounds
        self._outputs = outputs
        self._shared = Shared()

    def setup(self) -> None:
        # One model per process, however many threads: a SavedModel may be called from all.
        self._scorer = self._shared.acquire(
            lambda: Scorer.load(self._model, self._record_format, self._bounds)
        )

    def process(self, unit: Unit) -> Iterator[Manifest]:
        manifest = run_unit(unit, self._scorer, self._bounds, self._outputs, metrics.MeteredWork())
        metrics.count(
            manifest.examples_read, manifest.predictions_written, manifest.examples_failed
        )
        yield manifest


def _write_lines(lines: Sequence[str], path: str) -> None:
    with files.open_to_write(path) as file:
        file.write("".join(line + "\n" for line in lines).encode())
