"""Units on workers. As little logic as possible in this module: see `units/run.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.utils.shared import Shared

from bulk_inferencer import _files
from bulk_inferencer._models.batching import BatchBounds, Scorer
from bulk_inferencer._models.names import in_words
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.routing import SplitRouting
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.run import run_unit
from bulk_inferencer.beam import metrics
from bulk_inferencer.errors import located
from bulk_inferencer.results.outcomes import Outcomes, rows_by_key


class RunUnits(beam.PTransform):
    """Runs each unit from end to end on one worker thread.

    The input is the pipeline's begin, the output a `PCollection[Manifest]`.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        models: Mapping[str, Model],
        record_format: str,
        bounds: BatchBounds,
        outputs: Outputs,
        routing: SplitRouting | None = None,
        outcomes: Outcomes | None = None,
    ) -> None:
        super().__init__()
        self._units = units
        # Not the table itself, which may be large: workers read it once more.
        table = (outcomes.path, outcomes.digest) if outcomes else None
        self._run_unit = _RunUnit(models, record_format, bounds, outputs, routing, table)

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
        models: Mapping[str, Model],
        record_format: str,
        bounds: BatchBounds,
        outputs: Outputs,
        routing: SplitRouting | None,
        outcomes: tuple[str, str] | None,
    ) -> None:
        self._models = models
        self._record_format = record_format
        self._bounds = bounds
        self._outputs = outputs
        self._routing = routing
        self._outcomes = outcomes
        self._shared = Shared()

    def setup(self) -> None:
        # Once per process, however many threads: a SavedModel may be called from all.
        self._loaded = self._shared.acquire(self._load)

    def _load(self) -> _Loaded:
        scorers = {}
        for name, model in self._models.items():
            with located(in_words(name)):
                scorers[name] = Scorer.load(model, self._record_format, self._bounds)
        return _Loaded(scorers, rows_by_key(*self._outcomes) if self._outcomes else {})

    def process(self, unit: Unit) -> Iterator[Manifest]:
        manifest = run_unit(
            unit,
            self._loaded.scorers,
            self._bounds,
            self._outputs,
            self._routing,
            self._loaded.outcome_rows,
            metrics.MeteredWork,
        )
        metrics.count(
            manifest.examples_read, manifest.predictions_written, manifest.examples_failed
        )
        yield manifest


@dataclass(frozen=True)
class _Loaded:
    scorers: dict[str, Scorer]
    outcome_rows: dict[bytes, int]


def _write_lines(lines: Sequence[str], path: str) -> None:
    with _files.open_to_write(path) as file:
        file.write("".join(line + "\n" for line in lines).encode())
