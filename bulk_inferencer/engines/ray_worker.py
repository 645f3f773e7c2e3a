"""What Ray runs on a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def unit_runner(
    run_parcel: Callable[[Sequence[Any], Sequence[bytes]], str],
    environment: Mapping[str, str],
    log_level: int,
) -> Callable[[Sequence[Any], bytes], str]:
    """Returns a function that runs a unit on a worker, which may lack this package.

    It takes a `Parcel` and a pickled unit, and returns what `run_parcel` does.

    Args:
      run_parcel: `parcel.run_parcel`, which goes there by value.
      environment: variables of the environment, for where they are not set.
      log_level: of our log. Its lines go to stderr, which Ray keeps, and takes to whoever started
        the run.
    """

    # Pickled by value, as all functions within functions are.
    def run_unit(parcel: Sequence[Any], unit: bytes) -> str:
        import logging
        import os
        import warnings

        for name, value in environment.items():
            os.environ.setdefault(name, value)
        logger = logging.getLogger("bulk_inferencer")
        if not logger.handlers:  # for the first unit
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
            logger.addHandler(handler)
            logger.propagate = False
            # They tell of themselves when they are imported.
            for module in ("apache_beam", "google"):
                warnings.filterwarnings("ignore", category=FutureWarning, module=module)
        logger.setLevel(log_level)
        return run_parcel(parcel, [unit])

    return run_unit
