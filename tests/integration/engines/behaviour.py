"""What all engines have in common, as functions that take one and a folder.

    def test_results_are_those_of_local_threads(tmp_path, cluster, local):
        scores_as_local_threads_do(Ray(cluster.address), tmp_path, local, workers=2)

The model comes from `user_modules/five_times.py`, which workers have only if the engine brings it
to them. It notes each call, with the process that it was in; waits in each worker until all of them
have one; and pauses at about half of a run, until a test has killed something. See `runs`.
"""

from __future__ import annotations

import gzip
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bulk_inferencer import (
    BatchBounds,
    CascadeModel,
    Column,
    ExitWhen,
    FailureLimit,
    HookedModel,
    Outputs,
    PythonModel,
    SavedModel,
    Stage,
    Summary,
    read_predictions,
    run,
)
from bulk_inferencer.engines import Beam
from bulk_inferencer.errors import ModelError, WorkerError
from tests.faults.account import lost_and_doubled
from tests.helpers import features_of, tree
from tests.integration.engines.runs import (
    CALLS,
    FILES,
    MODULES,
    RECORDS,
    RECORDS_OF_FILE,
    UNITS,
    WIDE_RECORDS,
    at_half,
    calls_in,
    job_in,
    job_of,
    launched,
    model_in,
    wait_for,
    write_inputs,
    write_wide_inputs,
)

# The same as on local threads


@dataclass(frozen=True)
class Local:
    """Inputs, and what local threads make of them, for all engines; see `local_results`."""

    folder: Path

    @property
    def inputs(self):
        return f"{self.folder}/in/*.gz"


def local_results(folder):
    """Scores on local threads what `scores_as_local_threads_do` scores elsewhere."""
    write_inputs(folder / "in", bad=[-1, -2, -3])
    local = Local(folder)
    run(_job_of_everything(local, model_in(folder), folder / "out"))
    return local


def scores_as_local_threads_do(engine, folder, local, workers):
    """Several models, a cascade, hooks, a table, a comparison and failures: the same results.

    Args:
      engine: the engine.
      folder: an empty folder.
      local: see `local_results`.
      workers: how many processes the engine has, which all must have work.

    Returns:
      the calls of the model on workers.
    """
    model = model_in(folder, workers)
    summary = run(_job_of_everything(local, model, folder / "out"), engine)
    total = summary.branches["five"].total
    good = FILES * RECORDS_OF_FILE
    counts = total.examples_read, total.predictions_written, total.examples_failed
    assert counts == (good + 3, good, 3)
    assert_same_results(folder / "out", local.folder / "out")
    # The launcher tries the model, too.
    calls = [call for call in calls_in(folder) if call.pid != os.getpid()]
    assert len({call.pid for call in calls}) >= workers
    return calls


def _job_of_everything(local, model, out):
    ten = PythonModel("five_times:load_ten")
    stages = [Stage("five", ten, exit_when=[ExitWhen("y", at_most=1000)]), Stage("ten", ten)]
    models = {
        "five": HookedModel(model, postprocess="five_times:add_label"),
        "ten": ten,
        "both": CascadeModel(stages),
    }
    outputs = Outputs(
        summary=f"{out}/summary",
        failed_examples=f"{out}/failed_examples",
        output_examples=f"{out}/output_examples",
        columns=(Column("y", "y"),),
        table=f"{out}/table",
        comparison=f"{out}/comparison",
    )
    limit = FailureLimit(max_fraction=0.5)
    return job_of(models, local.inputs, out, outputs=outputs, failure_limit=limit)


def wide_results(folder):
    """Scores on local threads what `scores_wide_records` scores elsewhere."""
    write_wide_inputs(folder / "in")
    local = Local(folder)
    run(_wide_job(local, folder / "out"))
    return local


def scores_wide_records(engine, folder, wide):
    """400,000 records of 20 numbers in 32 files: the same results as those of `wide_results`."""
    summary = run(_wide_job(wide, folder / "out"), engine)
    assert summary.total.predictions_written == WIDE_RECORDS
    assert_same_results(folder / "out", wide.folder / "out")


def _wide_job(wide, out):
    bounds = BatchBounds(first_records=4096, max_records=4096)
    return job_of(PythonModel("five_times:load_sum"), wide.inputs, out, bounds=bounds)


def assert_same_results(folder, expected):
    """Checks that results have the same files and the same content, but for times and paths."""
    assert tree(folder) == tree(expected)
    for name in tree(expected):
        found, wanted = (_content(Path(own, name)) for own in (folder, expected))
        assert found == wanted, name


def _content(path):
    if path.suffix == ".gz":  # which isal does not always compress into the same bytes
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.name == "summary.json":
        branches = Summary.read(path.parent).branches
        return {name: (_counts(own), own.stages) for name, own in branches.items()}
    return path.read_bytes()


def _counts(branch):
    return {
        split: (own.examples_read, own.predictions_written, own.examples_failed, own.shards)
        for split, own in branch.splits.items()
    }


def scores_a_saved_model(engine, folder, saved_model, workers=0):
    """A real SavedModel, y = 5 x, on as few records as it takes."""
    job = job_of(SavedModel(saved_model), write_inputs(folder / "in"), folder / "out")
    summary = run(job, engine)
    assert summary.total.predictions_written == len(RECORDS)
    assert summary.branches["inference_result"].work.model_loads >= max(1, workers)
    assert_five_times(folder / "out")


def assert_five_times(out):
    """Checks that each record has its prediction, once, and that nothing else is left."""
    assert lost_and_doubled(RECORDS, f"{out}/inference_result") == (0, 0)
    found = read_predictions(f"{out}/inference_result")
    pairs = np.array([(*features_of(p.record)["x"], p.outputs["y"].item()) for p in found])
    np.testing.assert_allclose(pairs[:, 1], 5 * pairs[:, 0], rtol=1e-6)
    assert list(Path(out).rglob(".work")) == []


def scores_in_a_pipeline(engine, folder, beam_pipeline_args=()):
    """A TFX pipeline of BulkInferencer, BranchInferencer and CascadeInferencer, on real models.

    Args:
      engine: the engine; None for Beam with `beam_pipeline_args`.
      folder: an empty folder.
      beam_pipeline_args: Beam's options, of each component.
    """
    # TFX takes long to import.
    from bulk_inferencer import BranchInferencer, BulkInferencer, CascadeInferencer
    from tests.components.tfx_helpers import LocalPipeline, five_times, scored
    from tests.integration import checks

    checks.write_artifacts(folder)
    nodes, several = checks.import_artifacts(folder)
    examples, five, data_spec = several["examples"], several["models"]["five"], several["data_spec"]
    blessing = several["model_blessings"]["five"]
    pipeline = LocalPipeline(folder)
    inferencers = [
        BulkInferencer(examples, five, blessing, data_spec, engine=engine),
        BranchInferencer(**several, **checks.COMPARISON, engine=engine),
        CascadeInferencer(**several, **checks.STAGES, engine=engine),
    ]
    for node in inferencers:
        node.with_beam_pipeline_args(beam_pipeline_args)
    pipeline.run(*nodes, *inferencers)
    assert scored(pipeline.latest("BulkInferencer").output()) == five_times(*checks.XS)
    checks.check_branch(pipeline.latest("BranchInferencer").output)
    checks.check_cascade(pipeline.latest("CascadeInferencer").output)


# Errors


def raises_errors_of_workers_once(engine, folder, workers, at_once=1):
    """An error of ours on a worker: its own type, one line, and nothing is tried again.

    Args:
      engine: the engine.
      folder: an empty folder.
      workers: how many processes the engine has.
      at_once: how many units each of them has at a time.
    """
    job = job_in(folder, error="it is broken")
    with pytest.raises(ModelError, match=r"^it is broken$"):
        run(job, engine)
    pids = [call.pid for call in calls_in(folder)]
    assert len(pids) <= len(set(pids)) * at_once <= workers * at_once
    assert tree(folder / "out") == []


def raises_errors_that_are_not_ours(engine, folder):
    """An error that a worker raises and nobody expects: it arrives as it is."""
    import five_times

    job = job_of(
        five_times.Broken("five_times:load_ten"), write_inputs(folder / "in"), folder / "out"
    )
    with pytest.raises(ArithmeticError, match=r"^nobody expects it$"):
        run(job, engine)
    assert tree(folder / "out") == []


def refuses_a_folder_that_workers_do_not_share(engine, folder):
    """Each process has a disk of its own, and so workers do not see what the launcher writes."""
    import own_disk

    model = PythonModel(own_disk.load)
    modules = [str(MODULES / "own_disk.py")]
    job = job_of(model, write_inputs(folder / "in"), "own://out", modules=modules)
    try:
        with pytest.raises(WorkerError, match=r"^A worker on .* cannot see own://out/summary/"):
            run(job, engine)
        # Not even what would be kept for another run.
        assert tree(own_disk.on_disk("own://out")) == []
    finally:
        shutil.rmtree(own_disk.on_disk("own://"))


# Kills


def kill_worker(call):
    """Kills the process that a call of the model is in."""
    os.kill(call.pid, signal.SIGKILL)


def survives(engine, folder, workers, kill=kill_worker):
    """At half of a run, something is killed: the run ends as if nothing had happened.

    Args:
      engine: the engine.
      folder: an empty folder.
      workers: how many processes the engine has.
      kill: takes a `Call` that is going on, and kills what the test wants killed.
    """
    job = job_in(folder, workers, half=True)
    with at_half(folder, kill) as killed:
        summary = run(job, engine)
    assert summary.total.predictions_written == len(RECORDS)
    assert summary.reused.units == 0
    assert_five_times(folder / "out")
    # What was killed was at work, and somebody else did that again.
    (call,) = killed
    assert len({own.pid for own in calls_in(folder) if own.x == call.x}) == 2


def fails_cleanly(engine, folder, workers, match, kill=kill_worker, at_once=1):
    """As `survives`, on an engine that cannot go on: a `WorkerError`, then the same call again."""
    job = job_in(folder, workers, half=True)
    with at_half(folder, kill) as killed, pytest.raises(WorkerError, match=match):
        run(job, engine)
    assert len(killed) == 1
    assert _visible(folder) == []
    summary = run(job, engine)
    assert summary.reused.units >= UNITS // 2 - workers * at_once
    assert_five_times(folder / "out")


def goes_on_elsewhere(engine, folder, workers, other=None, at_once=1):
    """The launcher is killed at half of a run; the same call goes on, on another engine."""
    job = job_in(folder, workers, half=True)
    with launched(job, engine, folder) as child:
        wait_for(folder / "notes/paused", child)
        done = _kept(folder)
        child.kill()
    (folder / "notes/go").touch()
    summary = run(job, other or Beam())
    assert summary.reused.units >= len(done) >= UNITS // 2 - workers * at_once
    assert_five_times(folder / "out")
    again = [call for call in calls_in(folder) if call.pid == os.getpid()]
    assert len(again) <= (UNITS - len(done)) * CALLS


def stops_when_interrupted(engine, folder, workers, at_once=1, number=signal.SIGINT):
    """Ctrl-C at half of a run: no worker goes on, what is finished is kept, and a run resumes."""
    job = job_in(folder, workers, half=True)
    with launched(job, engine, folder) as child:
        wait_for(folder / "notes/paused", child)
        child.send_signal(number)
        child.wait(60)
    at_work = calls_in(folder)
    assert child.returncode in (-number, 128 + number)
    said = child.log.read_text().splitlines()
    assert sum("finished units are kept in" in line for line in said) == 1
    assert _visible(folder) == []
    # They could go on now, if they were still there.
    (folder / "notes/go").touch()
    kept = len(_kept(folder))
    summary = run(job)
    assert summary.reused.units == kept >= UNITS // 2 - workers * at_once
    assert_five_times(folder / "out")
    assert {call for call in calls_in(folder) if call.pid != os.getpid()} == set(at_work)


def _kept(folder):
    return list(Path(folder, "out/summary/.work").glob("units-*/*.json"))


def _visible(folder):
    return [name for name in tree(folder / "out") if "/.work/" not in name]
