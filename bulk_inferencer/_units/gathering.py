"""What a run keeps of the manifests of its units, which are read one after the other.

    manifest, manifest, ... -> Gathered: manifests without what is large
                                         the notes of each sink, merged
                                         one timeline

Statistics of one output take 50 KB in memory, and a run may have thousands of units: all of them
together would not fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import Sink
from bulk_inferencer.results.timeline import Timeline
from bulk_inferencer.results.timeline import merged as joined

_AT_ONCE = 100  # Merging some at a time is faster than one by one.


@dataclass(frozen=True)
class Gathered:
    """What all units of a run have left.

    Attributes:
      manifests: in the order of units and with their numbers; without timelines, and without the
        notes that were merged.
      notes: the notes of all units, merged; by sink.
      timeline: when the units made their predictions.
    """

    manifests: Sequence[Manifest] = ()
    notes: dict[str, Any] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)


def gather(
    units: Sequence[Unit],
    manifests: Iterable[Manifest],
    sinks: Sequence[Sink],
    reused: Collection[str] = (),
) -> Gathered:
    """Returns what the units of a run have left.

    Args:
      units: all units of the run.
      manifests: of finished units. Those of other runs do not count.
      sinks: what the units had written to.
      reused: the keys of units that an earlier run had finished; its timeline is not this one's.
    """
    numbers = {unit.key: number for number, unit in enumerate(units)}
    own = (manifest for manifest in manifests if manifest.key in numbers)
    found: dict[int, Manifest] = {}
    notes: dict[str, Any] = {sink.name: None for sink in sinks}
    timeline = Timeline()
    while some := list(itertools.islice(own, _AT_ONCE)):
        for sink in sinks:
            notes[sink.name] = sink.merged(notes[sink.name], some)
        merged = {name for name, of_sink in notes.items() if of_sink is not None}
        scored = (manifest.timeline for manifest in some if manifest.key not in reused)
        timeline = joined([timeline, *scored])
        for manifest in some:
            number = numbers[manifest.key]
            # The files of its unit are the same, and in memory already.
            found[number] = replace(
                manifest.without_notes(merged), index=units[number].index, files=units[number].files
            )
    ordered = [found[number] for number in sorted(found)]
    return Gathered(ordered, notes, timeline)
