"""What Beam's hints say that workers need."""

from __future__ import annotations

import logging
import re
from typing import Any

import apache_beam as beam
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner, DirectRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.resources import MinRamHint

from bulk_inferencer.errors import SettingsError

_logger = logging.getLogger(__name__)

_LOCAL = (BundleBasedDirectRunner, DirectRunner, FnApiRunner)
_ACCELERATOR = re.compile(r"type:[^\s;:]+(;(count:[1-9]\d*|(?!count:)[^\s;]+))*", re.ASCII)


def check_hints(accelerator: Any, min_ram: Any) -> None:
    """Checks hints as far as it is known what all runners make of them; empty ones are none.

    Raises:
      SettingsError: one of them has another form.
    """
    is_text = isinstance(accelerator, str) and accelerator.isascii()
    if accelerator != "" and not (is_text and _ACCELERATOR.fullmatch(accelerator)):
        raise SettingsError(
            f"Beam.accelerator must name a type and a number of accelerators for each worker, not "
            f"{accelerator!r}. Write it as 'type:nvidia-tesla-t4;count:1;install-nvidia-driver'."
        )
    if min_ram != "" and not _is_size(min_ram):
        raise SettingsError(
            f"Beam.min_ram must be the memory of a worker, in bytes or with a unit, not "
            f"{min_ram!r}. Write it as '30GB'."
        )


def are_of_use(pipeline: beam.Pipeline) -> bool:
    """Returns whether the runner of a pipeline may have other workers for a step with hints.

    The local one has not. It would keep all that goes from step to step in memory, and hang where
    that is more than 100 MB for a thread (apache/beam#38407, in Beam 2.74).
    """
    if isinstance(pipeline.runner, _LOCAL):
        _logger.info("Beam's local runner makes nothing of accelerator and min_ram.")
        return False
    return True


def _is_size(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        (size,) = MinRamHint.parse(value).values()
    except (OverflowError, ValueError):
        return False
    return int(size) > 0
