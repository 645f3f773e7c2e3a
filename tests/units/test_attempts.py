"""Attempts of a unit, in any order, beside the steps of the run: one counts, the others vanish."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import hypothesis
import pytest
from hypothesis import strategies as st

from bulk_inferencer import (
    Checkpoint,
    FailureLimit,
    InferenceJob,
    Outputs,
    _run,
    read_predictions,
    run,
)
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.record_format import FORMAT_PROTO
from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer._units import claim, progress, worker
from bulk_inferencer._units.manifest_files import manifests_by_path
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.engines import Engine
from bulk_inferencer.errors import WorkerError
from tests.helpers import Lengths, in_bucket, tree, write_tfrecord
from tests.units.interleaving import Actor, Turns

STORES = {"disk": str, "bucket": in_bucket}
KEPT = "checkpoint that is kept"
PLACES = ("outputs", "checkpoint", KEPT)
EVERYWHERE = pytest.mark.parametrize(
    ("store", "place"), [(store, place) for store in STORES for place in PLACES]
)


@dataclass(frozen=True)
class AttemptModel:
    """The length of each record, and 1000 for each letter up to the name of the thread: A, B, C.

    So no two attempts write the same bytes.
    """

    uri = "memory://attempts"
    signatures = (Signature("serving_default", PREDICT, ("y",)),)
    input_name = "records"

    def check(self, record_format: str) -> tuple[Signature, ...]:
        return self.signatures

    def load(self, record_format: str) -> AttemptModel:
        return self

    def fingerprint(self) -> str:
        return "f00d"

    def predict(self, batch: list[bytes]) -> Prediction:
        y = Lengths().predict(batch).outputs["length"]
        name = threading.current_thread().name
        return Prediction({"y": y + (1000 * (ord(name) - 64) if len(name) == 1 else 0)})


@dataclass(frozen=True)
class AttemptsEngine(Engine):
    """Tries each unit once per name, as actors, and returns when one of them is done."""

    turns: Turns
    names: str = "AB"
    error: type[BaseException] | None = None
    options: Sequence[str] = ()

    def run_units(self, worker: UnitWorker, units: Sequence[Unit]) -> None:
        (unit,) = units
        attempts = [self.turns.actor(name, lambda: worker(unit)) for name in self.names]
        if self.error:
            self.turns.wait(lambda: True)
            raise self.error
        self.turns.wait(lambda: any(own.is_over and own.result for own in attempts))


@dataclass
class Case:
    """A run with two attempts of its only unit, in a folder of its own."""

    folder: Path
    store: str
    place: str
    turns: Turns
    patch: pytest.MonkeyPatch
    finals: list[Any] = field(default_factory=list)  # of each run that got so far

    def job(self) -> InferenceJob:
        root = STORES[self.store](str(self.folder))
        folder, keep = f"{root}/checkpoints", self.place == KEPT
        return InferenceJob(
            splits={"s": [f"{self.folder}/in"]},
            model=AttemptModel(),
            outputs=Outputs.under(f"{root}/out"),
            record_format=FORMAT_PROTO,
            bounds=BatchBounds(max_records=1),
            failure_limit=FailureLimit(max_fraction=1),
            checkpoint=None if self.place == "outputs" else Checkpoint(folder, keep),
        )

    def launch(self, engine: Engine) -> Actor:
        """Returns a run as an actor; its attempts become actors when it hands them over."""
        return self.turns.actor("launcher", lambda: run(self.job(), engine))

    def check(self) -> None:
        """Checks that what was taken is committed, and that nothing else is left."""
        finals = self.finals[-1]
        for path, shard in finals.items():
            content = Path(path.removeprefix("bucket:/")).read_bytes()
            assert google_crc32c.value(content) == shard.crc32c, path
        folder = self.folder / "out"
        found = [int(p.outputs["y"]) for p in read_predictions(folder / "inference_result")]
        attempt = found[0] - found[0] % 1000
        assert attempt
        assert found == [attempt + 1, attempt + 2]  # `bad` cannot be scored.
        assert tree(folder) == [
            "failed_examples/Split-s/failed_examples-00000-of-00001.gz",
            "inference_result/prediction_logs-s-00000-of-00001.gz",
            "summary/failures-s.jsonl.gz",
            "summary/statistics.json",
            "summary/summary.json",
        ]
        self.check_checkpoint()
        if self.store == "disk":
            assert not list(folder.rglob(".work"))

    def check_checkpoint(self) -> None:
        """Checks that all that is kept is a finished unit."""
        checkpoints = self.folder / "checkpoints"
        if self.place != KEPT:
            assert tree(checkpoints) == []
            assert (
                self.place == "outputs" or self.store == "bucket" or not any(checkpoints.iterdir())
            )
            return
        (checkpoint,) = checkpoints.iterdir()
        (folder,) = checkpoint.glob("units-*")
        ((path, manifest),) = manifests_by_path(STORES[self.store](str(folder)))
        names = {Path(path).name, "job.json", *(Path(s.path).name for s in manifest.shards)}
        assert sorted(names) == sorted(Path(name).name for name in tree(checkpoint))
        for shard in manifest.shards:
            content = Path(shard.path.removeprefix("bucket:/")).read_bytes()
            assert google_crc32c.value(content) == shard.crc32c


@pytest.fixture(scope="module")
def new_case(tmp_path_factory):
    """Makes cases, which can be used in a `with`."""

    @contextmanager
    def case_in(store, place):
        folder = tmp_path_factory.mktemp("case")
        write_tfrecord(folder / "in", [b"1", b"bad", b"22"])
        with pytest.MonkeyPatch.context() as patch:
            case = Case(folder, store, place, Turns(patch), patch)
            _patch(case)
            try:
                yield case
            finally:
                for actor in case.turns.actors:
                    actor.kill()

    return case_in


def _patch(case):
    final_names = _run.final_names

    def seen_final_names(*args):
        case.finals.append(final_names(*args))
        return case.finals[-1]

    case.patch.setattr(_run, "final_names", seen_final_names)
    processes = defaultdict(dict)

    def of_process(own):
        """Makes each actor a process of its own."""
        runs = processes[threading.current_thread()]
        return runs.setdefault(own.stop.path, worker._OfRun(own))

    case.patch.setattr(worker, "_of_run", of_process)
    # No threads but those of actors write anything.
    for module, name in (
        (progress, "_LOCAL_SECONDS"),
        (progress, "_REMOTE_SECONDS"),
        (claim, "_SIGN_SECONDS"),
    ):
        case.patch.setattr(module, name, threading.TIMEOUT_MAX)


def play(turns: Turns, moves: Sequence[tuple[int, int]]) -> None:
    """Lets actors move: each move says who, among those that can, and for how many steps."""
    for who, steps in moves:
        for _ in range(steps):
            if not (moving := turns.moving()):
                return
            moving[who % len(moving)].step()


def errors(case: Case) -> list[BaseException]:
    """Returns the errors of all actors but for those that began when the run was over."""
    found = [actor.error for actor in case.turns.actors if actor.error]
    return [e for e in found if not (isinstance(e, WorkerError) and "cannot see" in str(e))]


MOVES = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40)), max_size=30)


@EVERYWHERE
def test_attempts_side_by_side_leave_the_files_of_one(new_case, store, place):
    with new_case(store, place) as case:
        case.launch(AttemptsEngine(case.turns))
        case.turns.finish()
        assert errors(case) == []
        case.check()


@pytest.mark.slow
@EVERYWHERE
@hypothesis.settings(max_examples=30)
@hypothesis.given(moves=MOVES)
def test_attempts_in_any_order_leave_the_files_of_one(new_case, store, place, moves):
    with new_case(store, place) as case:
        case.launch(AttemptsEngine(case.turns))
        play(case.turns, moves)
        case.turns.finish()
        assert errors(case) == []
        case.check()


@pytest.mark.slow
@EVERYWHERE
@hypothesis.settings(max_examples=20)
@hypothesis.given(steps=st.integers(0, 40), moves=MOVES)
def test_attempt_that_is_killed_leaves_nothing(new_case, store, place, steps, moves):
    with new_case(store, place) as case:
        case.launch(AttemptsEngine(case.turns))
        while len(case.turns.actors) == 1:
            case.turns.actors[0].step()
        second = case.turns.actors[2]
        for _ in range(steps):
            if second.can_move():
                second.step()
        second.kill()
        play(case.turns, moves)
        case.turns.finish()
        case.check()


@pytest.mark.slow
@EVERYWHERE
@pytest.mark.parametrize("is_killed", [False, True], ids=["Ctrl-C", "kill -9"])
@hypothesis.settings(max_examples=20)
@hypothesis.given(before=MOVES, after=MOVES)
def test_attempt_that_outlives_its_run_does_no_harm_to_the_next_one(
    new_case, store, place, is_killed, before, after
):
    with new_case(store, place) as case:
        case.patch.setattr(claim, "_DEAD_SECONDS", -1)
        turns = case.turns
        first = case.launch(AttemptsEngine(turns, "B", KeyboardInterrupt))

        def second_run():
            turns.wait(lambda: first.is_over)
            return run(case.job(), AttemptsEngine(turns, "C"))

        second = turns.actor("second", second_run)
        play(turns, before)
        if is_killed:
            first.kill()
        play(turns, after)
        turns.finish()
        assert second.error is None
        case.check()
