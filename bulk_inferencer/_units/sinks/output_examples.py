"""Output examples: each record with its prediction as additional features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bulk_inferencer import _layout
from bulk_inferencer._formats.example import Column, append_columns
from bulk_inferencer._formats.rows import taken
from bulk_inferencer._models.scoring import ScoredRows
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import RecordSink, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import UnitFiles
from bulk_inferencer.errors import SettingsError

# The feature that names the model that a record went to.
VARIANT = "variant"


def check_no_variant(columns: Sequence[Column]) -> None:
    """Checks that no column takes the place of the feature with the model's name.

    Raises:
      SettingsError: one does.
    """
    if any(column.name == VARIANT for column in columns):
        raise SettingsError(
            f"A column cannot be named '{VARIANT}' in an A/B test: that feature holds the name of "
            f"the model. Choose another name in Outputs.columns."
        )


@dataclass(frozen=True)
class OutputExamples(Sink):
    """Writes each record that none of its models failed on, with columns.

    With `is_split`, each record goes to one model, whose name becomes the feature `variant`.
    Otherwise, with `names_models`, the columns are named `<model>/<column>`.
    """

    folder: str
    columns: tuple[Column, ...]
    replace_features: bool
    is_split: bool
    names_models: bool
    name = "output_examples"

    def file_name(self, split: str, shard: str) -> str:
        return _layout.output_examples(split, shard)

    def open(self, unit: Unit, files: UnitFiles) -> RecordSink:
        name = self.file_name(unit.split, unit.shard_name)
        return RecordSink(files.open(self.folder, name), self._examples, lambda s: s.branches)

    def _examples(self, scored: ScoredBatch) -> list[bytes]:
        rows: Sequence[int] = range(len(scored.batch.records))
        if any(scored.failures()):  # which may be no records
            pieces = [piece for result in scored.branches.values() for piece in result.scored]
            rows = sorted({row for piece in pieces for row in piece.rows})
        records = dict(zip(rows, taken(scored.batch.records, rows), strict=True))
        examples = {} if self.is_split else records
        for branch, result in scored.branches.items():
            if self.is_split:
                longer = self._with_columns(records, result.scored, "")
                examples.update(self._with_variant(longer, branch))
            else:  # only what every model so far has scored
                prefix = f"{branch}/" if self.names_models else ""
                examples = self._with_columns(examples, result.scored, prefix)
        return [examples[row] for row in sorted(examples)]

    def _with_columns(
        self, examples: Mapping[int, bytes], pieces: Sequence[ScoredRows], prefix: str
    ) -> dict[int, bytes]:
        """Returns those examples, by row, that a model scored, with its columns."""
        longer: dict[int, bytes] = {}
        for piece in pieces:
            kept = [i for i, row in enumerate(piece.rows) if row in examples]
            if not kept:
                continue
            rows = [piece.rows[i] for i in kept]
            outputs = piece.prediction.outputs
            if len(kept) < len(piece.rows):
                outputs = {name: values[kept] for name, values in outputs.items()}
            # Where a stage of a cascade did not run, its outputs may be missing.
            ran_whole = all(piece.prediction.stages.values())
            columns = [
                Column(column.output, prefix + column.name)
                for column in self.columns
                if ran_whole or column.output in outputs
            ]
            records = [examples[row] for row in rows]
            appended = append_columns(records, outputs, columns, self.replace_features)
            longer.update(zip(rows, appended, strict=True))
        return longer

    def _with_variant(self, examples: Mapping[int, bytes], branch: str) -> dict[int, bytes]:
        if not examples:
            return {}
        names = {VARIANT: np.full(len(examples), branch.encode(), object)}
        columns = [Column(VARIANT, VARIANT)]
        records = append_columns([*examples.values()], names, columns, self.replace_features)
        return dict(zip(examples, records, strict=True))
