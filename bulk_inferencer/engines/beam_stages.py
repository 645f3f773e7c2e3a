"""Units in three steps of a Beam job, so that the runner can give an accelerator to one of them.

    Create(units) | Reshuffle | read                -> (key of the unit, (number, batch))
                  | Reshuffle | predict, with hints -> (key of the unit, (number, scored batch))
                  | GroupByKey | write              -> a manifest, where any unit leaves its own

Wiring only: `_units.stages` says what the steps do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam

from bulk_inferencer.engines import beam_unit

# Beam has coders for these types, which add a few bytes to each batch.
_KEYED = tuple[str, tuple[int, bytes]]


def run_in_stages(
    units: beam.PCollection,
    parcel: Sequence[Any],
    without_models: Sequence[Any],
    hints: Mapping[str, Any],
    gives_signs: bool,
) -> None:
    """Adds the steps to a pipeline.

    Args:
      units: units, pickled.
      parcel: for those who predict; see `Parcel`.
      without_models: for those who read and write.
      hints: what those who predict need, as Beam's `with_resource_hints` takes it.
      gives_signs: see `beam_unit`.
    """
    plain: dict[str, Any] = {"parcel": without_models, "gives_signs": gives_signs}
    predict = beam.FlatMap(beam_unit.predict_part, parcel=parcel, gives_signs=gives_signs)
    _ = (
        units
        | "Read" >> beam.FlatMap(beam_unit.read_unit, **plain).with_output_types(_KEYED)
        | "Spread" >> beam.Reshuffle()
        | "Predict" >> predict.with_output_types(_KEYED).with_resource_hints(**hints)
        | "Gather" >> beam.GroupByKey()
        | "Write" >> beam.Map(beam_unit.write_unit, **plain)
    )
