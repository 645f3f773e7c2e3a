"""What a worker of Beam does with a unit: all of it at once, or one step of three.

Workers get these functions by value, so that one that lacks this package can say so. This module
imports at its top only what goes along with them.

Of their arguments, `parcel` has the fields of a `Parcel`, and `gives_signs` says whether to show
that the worker is alive, see `signs_of_life`. All raise a RuntimeError if the worker cannot run any
unit. Its message is `WorkerError: ` and why, as the class may be missing here.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from bulk_inferencer.engines.parcel import problem_here

if TYPE_CHECKING:
    from bulk_inferencer._units.manifest import Manifest
    from bulk_inferencer._units.worker import UnitWorker

# A part of a unit as it goes from step to step: the unit's key, and a `stages.Numbered`.
Keyed: TypeAlias = "tuple[str, tuple[int, bytes]]"


def run_unit(unit: bytes, parcel: Sequence[Any], gives_signs: bool) -> None:
    """Runs a unit, pickled; see `UnitWorker`."""
    worker = _worker_in(parcel)
    from bulk_inferencer.beam import metrics

    own = pickle.loads(unit)
    with _signs(worker, gives_signs):
        _count(worker(own, metrics.MeteredWork))


def read_unit(unit: bytes, parcel: Sequence[Any], gives_signs: bool) -> Iterator[Keyed]:
    """Yields the parts of a unit, pickled; see `stages.read`."""
    worker = _worker_in(parcel)
    from bulk_inferencer._units import stages

    own = pickle.loads(unit)
    key = own.key
    with _signs(worker, gives_signs):
        for part in stages.read(worker, own):
            yield key, part


def predict_part(keyed: Keyed, parcel: Sequence[Any], gives_signs: bool) -> Iterator[Keyed]:
    """Yields what models make of a part; see `stages.predict`."""
    worker = _worker_in(parcel)
    from bulk_inferencer._units import stages
    from bulk_inferencer.beam import metrics

    key, part = keyed
    with _signs(worker, gives_signs):
        for predicted in stages.predict(worker, key, part, metrics.MeteredWork):
            yield key, predicted


def write_unit(
    keyed: tuple[str, Iterable[tuple[int, bytes]]], parcel: Sequence[Any], gives_signs: bool
) -> None:
    """Writes a unit of which all parts are here; see `stages.write`."""
    worker = _worker_in(parcel)
    from bulk_inferencer._units import stages

    _, parts = keyed
    with _signs(worker, gives_signs):
        _count(stages.write(worker, parts))


def _worker_in(parcel: Sequence[Any]) -> UnitWorker:
    if problem := problem_here(parcel):
        raise RuntimeError(f"WorkerError: {problem}")
    from bulk_inferencer.engines.unpacking import opened

    return opened(parcel)


def _signs(worker: UnitWorker, gives_signs: bool) -> contextlib.AbstractContextManager[None]:
    from bulk_inferencer.engines.signs_of_life import signs_of_life

    return signs_of_life(worker.task) if gives_signs else contextlib.nullcontext()


def _count(manifest: Manifest | None) -> None:
    from bulk_inferencer.beam import metrics

    if manifest:
        # For display only: some runners count failed attempts too.
        metrics.count(manifest.examples_read, manifest.predictions_made, manifest.examples_failed)


def send_by_value() -> None:
    """Lets Beam pickle these functions, and what they call, by value."""
    try:
        from apache_beam.internal import cloudpickle
    except ImportError:  # which older Beams do not bring
        import cloudpickle

    for name in (__name__, problem_here.__module__):
        cloudpickle.register_pickle_by_value(sys.modules[name])
