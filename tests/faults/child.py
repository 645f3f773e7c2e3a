"""A job of 40 files in a process of its own, which stops where a test wants to hit it.

python -m tests.faults.child FOLDER PLACE COUNT

It stops for good before the COUNTth call of the model (PLACE `model`), or before the COUNTth shard
gets its final name (PLACE `commit`), and makes the file `FOLDER/stopped`. With COUNT 0 it ends.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from bulk_inferencer import InferenceJob, Outputs, _files, run
from bulk_inferencer._formats.record_format import FORMAT_PROTO
from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer._signatures import PREDICT, Signature
from tests.helpers import Lengths, write_tfrecord

FILES = 40
RECORDS = [f"{i:03d}".encode() for i in range(10 * FILES)]


@dataclass(frozen=True)
class LengthModel:
    """The length of each record; `version` stands for the model's files."""

    version: str = "1"
    uri = "memory://lengths"
    signatures = (Signature("serving_default", PREDICT, ("length",)),)
    input_name = "records"

    def check(self, record_format: str) -> tuple[Signature, ...]:
        return self.signatures

    def load(self, record_format: str) -> LengthModel:
        return self

    def fingerprint(self) -> str:
        return self.version

    def predict(self, batch: list[bytes]) -> Prediction:
        before_call()
        return Prediction(Lengths().predict(batch).outputs)


def before_call() -> None:
    """Replaced in the child process."""


def write_inputs(folder: Path) -> None:
    for i in range(FILES):
        write_tfrecord(folder / f"in/{i:02d}.gz", RECORDS[10 * i : 10 * i + 10])


def job_in(folder: Path, **settings: object) -> InferenceJob:
    """Returns the job that reads `in` and writes `out`."""
    settings = {"model": LengthModel(), "outputs": Outputs.under(folder / "out"), **settings}
    splits = {"s": [f"{folder}/in/*.gz"]}
    return InferenceJob(splits=splits, record_format=FORMAT_PROTO, **settings)


def main(folder: Path, place: str, count: int) -> None:
    global before_call
    # Whoever runs the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    calls, move = itertools.count(1), _files.move

    def stop_at_count() -> None:
        if next(calls) >= count > 0:
            (folder / "stopped").touch()
            threading.Event().wait()

    def stop_and_move(source: str, target: str) -> None:
        stop_at_count()
        move(source, target)

    if place == "model":
        before_call = stop_at_count
    else:
        _files.move = stop_and_move
    run(job_in(folder))


if __name__ == "__main__":
    # As a module of its own name, so that workers find the same one.
    from tests.faults import child

    child.main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
