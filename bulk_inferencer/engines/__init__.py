"""Engines: what spreads the units of a run over workers.

`Beam` is the default. `Ray` and `Spark` need the extras of their names. Each is a frozen dataclass
of settings, for `run(job, engine=...)`. Write a subclass of `Engine` to add another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_inferencer import _lazy

if TYPE_CHECKING:
    from bulk_inferencer.engines.beam import Beam as Beam
    from bulk_inferencer.engines.engine import Engine as Engine
    from bulk_inferencer.engines.ray import Ray as Ray
    from bulk_inferencer.engines.spark import Spark as Spark

_MODULE_OF_NAME = {
    "Beam": "bulk_inferencer.engines.beam",
    "Engine": "bulk_inferencer.engines.engine",
    "Ray": "bulk_inferencer.engines.ray",
    "Spark": "bulk_inferencer.engines.spark",
}

__all__ = sorted(_MODULE_OF_NAME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = _lazy.attach(__name__, _MODULE_OF_NAME)
