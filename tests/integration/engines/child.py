"""Runs a job on an engine in a process of its own: python -m tests.integration.engines.child PATH.

PATH is a file with both, pickled.
"""

from __future__ import annotations

import pickle
import signal
import sys
from pathlib import Path

from bulk_inferencer import run
from tests.integration.engines import runs  # noqa: F401, which lets it import user_modules

if __name__ == "__main__":
    # Whoever runs the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(*pickle.loads(Path(sys.argv[1]).read_bytes()))
