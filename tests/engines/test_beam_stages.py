"""Jobs of three steps: what the runner is told, where they run, and that results are the same."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import threading
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.portability.common_urns import resource_hints
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from apache_beam.transforms.environments import DockerEnvironment

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.example import Column
from bulk_inferencer._formats.json_lines import JSONLines
from bulk_inferencer._formats.tfrecord import frame
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.python_model import PythonModel
from bulk_inferencer._run import run
from bulk_inferencer._units.damaged_files import DamagedFiles
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.stop_sign import StopSign
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.engines import beam_hints
from bulk_inferencer.engines.beam import Beam
from bulk_inferencer.engines.engine import run_units
from bulk_inferencer.errors import FailureLimitError, InputError, ModelError, SettingsError
from bulk_inferencer.job import Branch, InferenceJob, Outputs, unit_task
from bulk_inferencer.results.reader import read_predictions
from tests.helpers import exactly, example, tree, write_tfrecord
from tests.models.fakes import Model, length

T4 = "type:nvidia-tesla-t4;count:1;install-nvidia-driver"
PROCESSES = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--direct_running_mode=multi_processing",
    "--direct_num_workers=1",
]


# What the runner is told


class Noted(PipelineRunner):
    """Runs nothing."""

    def run_pipeline(self, pipeline, options):
        return PipelineResult(PipelineState.DONE)


def proto_of(tmp_path, pipeline=None, **hints):
    """Returns the proto of the pipeline of a job, as remote runners get it."""
    pipeline = pipeline or beam.Pipeline(Noted())
    outputs = Outputs.under(f"{tmp_path}/out")
    job = InferenceJob(splits={"s": []}, model=Model(length), outputs=outputs)
    task = dataclasses.replace(unit_task(job), manifests_folder=str(tmp_path))
    worker = UnitWorker(task, StopSign.in_folder(str(tmp_path)))
    run_units(Beam(make_pipeline=lambda: pipeline, **hints), worker, [Unit("s", 0, 1, ())])
    return pipeline.to_runner_api(default_environment=DockerEnvironment()).components


def steps_of(components):
    """Returns the functions of the job's own steps, and what their environments are told."""
    found = {}
    for own in components.transforms.values():
        if own.spec.urn == "beam:transform:pardo:v1":
            step = own.unique_name.partition("/")[0]
            environment = components.environments[own.environment_id]
            found.setdefault(step, []).append(dict(environment.resource_hints))
    return found


@pytest.mark.parametrize("count", [1, 8])
def test_only_who_predicts_is_given_an_accelerator(tmp_path, count):
    accelerator = T4.replace("count:1", f"count:{count}")
    components = proto_of(tmp_path, accelerator=accelerator, min_ram="30GB")
    steps = steps_of(components)
    told = {
        resource_hints.ACCELERATOR.urn: accelerator.encode(),
        resource_hints.MIN_RAM_BYTES.urn: b"30000000000",
    }
    assert steps.pop("Predict") == [told]
    assert steps.keys() >= {"Units", "Distribute", "Read", "Spread", "Write"}
    assert all(own == {} for step in steps.values() for own in step)
    # No other transform is in that environment, whether it runs there or not.
    (hinted,) = (i for i, own in components.environments.items() if own.resource_hints)
    within = [t for t in components.transforms.values() if t.environment_id == hinted]
    assert {own.unique_name.partition("/")[0] for own in within} == {"Predict"}
    assert len(components.environments) == 2


@pytest.mark.parametrize(
    ("hints", "steps"),
    [({}, {"RunUnit"}), ({"min_ram": 5}, {"Read", "Predict", "Write"})],
    ids=["none", "memory"],
)
def test_without_hints_a_job_has_one_step(tmp_path, hints, steps):
    components = proto_of(tmp_path, **hints)
    found = steps_of(components).keys() - {"Units", "Distribute", "Spread", "Gather"}
    assert found == steps
    told = [dict(own.resource_hints) for own in components.environments.values()]
    memory = {resource_hints.MIN_RAM_BYTES.urn: b"5"}
    assert sorted(told, key=len) == ([{}, memory] if hints else [{}])


@pytest.mark.parametrize(
    "value",
    ["nvidia-tesla-t4", "type:;count:1", "type:t4;count:0", "type:t4;count:x", "type:t4; x", None],
)
def test_accelerator_that_no_runner_knows_is_refused(value):
    message = (
        f"Beam.accelerator must name a type and a number of accelerators for each worker, not "
        f"{value!r}. Write it as 'type:nvidia-tesla-t4;count:1;install-nvidia-driver'."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        Beam(accelerator=value)


@pytest.mark.parametrize("value", ["30", "-1GB", "infGB", 0, True, None])
def test_memory_that_is_no_size_is_refused(value):
    message = (
        f"Beam.min_ram must be the memory of a worker, in bytes or with a unit, not {value!r}. "
        f"Write it as '30GB'."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        Beam(min_ram=value)


def test_local_runner_knows_no_hints(tmp_path, caplog):
    pipeline = beam.Pipeline(FnApiRunner())
    with caplog.at_level(logging.INFO):
        components = proto_of(tmp_path, pipeline, accelerator=T4)
    assert "Predict" not in steps_of(components)
    assert "Beam's local runner makes nothing of accelerator and min_ram." in caplog.messages


# What comes out


@pytest.fixture
def hinted(monkeypatch):
    """Lets the local runner run jobs of three steps, as long as little goes from step to step."""
    monkeypatch.setattr(beam_hints, "_LOCAL", ())


def lengths(records):
    if any(record.startswith(b"bad") for record in records):
        raise ValueError("a bad record")
    return {"n": np.array(list(map(len, records)), np.int64), "text": [r[:3] for r in records]}


def five(features):
    return {"y": 5.0 * features["x"]}


def picky(features):
    if (features["x"] == 3).any():
        raise ValueError("three")
    return {"y": 10.0 * features["x"], "z": np.stack([features["x"]] * 2, 1)}


def model(function, **settings):
    return PythonModel(lambda path: function, **settings)


RAW = {"model": model(lengths, takes_records=True), "record_format": "FORMAT_PROTO"}


def records_of_files(folder):
    for i in range(3):
        records = [b"%d-%d" % (i, j) for j in range(40)]
        records[10 * i : 10 * i] = [b"bad", b"bad too"]
        write_tfrecord(folder / f"in/{i}.gz", records)


def failures(folder):
    records_of_files(folder)
    return RAW


def nothing_to_read(folder):
    write_tfrecord(folder / "in/0.gz", [])
    write_tfrecord(folder / "in/1.gz", [b"a"])
    splits = {"s": [f"{folder}/in/*"], "none": [f"{folder}/none/*"]}
    return {**RAW, "splits": splits, "allow_empty_splits": True}


def limit(folder):
    records_of_files(folder)
    return {**RAW, "limit": 53}


def damage(folder):
    records_of_files(folder)
    content = frame([b"%d" % i for i in range(100)])
    (folder / "in/3").write_bytes(content[:-30])
    return {**RAW, "damaged_files": DamagedFiles(skip=True)}


def several(folder):
    for i in range(2):
        write_tfrecord(folder / f"in/{i}.gz", [example(x=float(x)) for x in range(20 * i)])
    stages = [
        Stage("small", model(five), exit_when=[ExitWhen("y", at_most=40)]),
        Stage("full", model(picky)),
    ]
    models = {"five": model(five), "ten": model(picky), "both": CascadeModel(stages)}
    return {"models": models, "columns": [Column("y", "score")], "comparison": True}


def split(folder):
    records = [example(x=float(x), k=f"user-{x}") for x in range(60)]
    records[5:5] = [example(x=1.0), b"\xff"]
    for i in range(2):
        write_tfrecord(folder / f"in/{i}.gz", records[i::2])
    rows = ["key,value", *(f"user-{x},{x}" for x in range(30))]
    (folder / "outcomes.csv").write_text("\n".join(rows))
    return {
        "models": {"five": model(five), "ten": model(picky)},
        "routing": SplitRouting({"five": 1, "ten": 2}, "k"),
        "outcomes": f"{folder}/outcomes.csv",
        "columns": [Column("y", "score")],
        "comparison": True,
    }


class InParts(JSONLines):
    """JSON Lines of which even small files have parts."""

    def reader(self, files, view, kept):
        return dataclasses.replace(super().reader(files, view, kept), part_bytes=700)


def table(folder):
    (folder / "in").mkdir()
    for i in range(2):
        lines = [json.dumps({"x": x + i, "id": f"row {x}"}) for x in range(90)]
        lines[40], lines[70] = "{", '{"x": "y", "id": "row"}'
        (folder / f"in/{i}.jsonl").write_text("\n".join(lines))
    return {
        "models": {"five": model(five), "ten": model(picky)},
        "input_format": InParts(),
        "rename": {"id": "name"},
        "table": True,
    }


# With the number of units.
CASES = [(failures, 3), (nothing_to_read, 3), (limit, 1), (damage, 4), (several, 2), (split, 2),
         (table, 8)]  # fmt: skip


def job_of(out, *, folder, models=None, columns=(), comparison=False, table=False, **settings):
    branches = [Branch(name, own, f"{out}/{name}") for name, own in (models or {}).items()]
    outputs = Outputs.under(
        out,
        table=table,
        comparison=f"{out}/comparison" if comparison else None,
        output_examples=f"{out}/output_examples" if columns else None,
        columns=tuple(columns),
    )
    settings = {
        "splits": {"s": [f"{folder}/in/*"]},
        "bounds": BatchBounds(first_records=7, max_records=7),
        "failure_limit": FailureLimit(max_fraction=1),
        **settings,
    }
    return InferenceJob(outputs=outputs, branches=branches, **settings)


def without_times(summary):
    work = {"work": None, "seconds": None}
    branches = {n: dataclasses.replace(b, **work) for n, b in summary.branches.items()}
    return dataclasses.replace(summary, branches=branches, timeline=None, made_from={})


@pytest.mark.parametrize(("case", "units"), CASES, ids=[case.__name__ for case, _ in CASES])
def test_results_are_those_of_a_job_of_one_step(tmp_path, hinted, case, units):
    settings = {"folder": tmp_path, **case(tmp_path)}
    whole = run(job_of(f"{tmp_path}/whole", **settings))
    summary = run(job_of(f"{tmp_path}/steps", **settings), Beam(accelerator=T4))
    assert without_times(summary) == without_times(whole)
    for name, branch in summary.branches.items():
        assert branch.total.predictions_written > 0
        assert branch.work.batches == whole.branches[name].work.batches
    calls = sum(branch.work.batches for branch in summary.branches.values())
    assert sum(summary.timeline.calls) == pytest.approx(calls, abs=0.001)
    found = tree(tmp_path / "steps")
    assert found == tree(tmp_path / "whole")
    assert len([name for name in found if name.startswith("failed_examples/")]) == units
    for name in found:
        if name != "summary/summary.json":
            one, other = (Path(tmp_path, out, name).read_bytes() for out in ("steps", "whole"))
            assert one == other, name


def test_beam_shows_what_all_steps_add_up_to(tmp_path, hinted):
    pipeline = beam.Pipeline(FnApiRunner())
    job = job_of(f"{tmp_path}/out", folder=tmp_path, **failures(tmp_path))
    run(job, Beam(make_pipeline=lambda: pipeline, min_ram="1GB"))
    found = pipeline.result.metrics().query()["counters"]
    shown = {own.key.metric.name: own.committed for own in found}
    counts = {"examples_read": 126, "predictions_written": 120, "examples_failed": 6}
    assert {name: shown[name] for name in counts} == counts
    assert (shown["num_inferences"], shown["model_loads"]) == (120, 1)


def wrong(records):
    raise ModelError("it is wrong")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model": model(wrong, takes_records=True)}, ModelError, "^it is wrong$"),
        ({"damaged_files": DamagedFiles()}, InputError, r"^Cannot read .*/in/3 "),
        (
            {"failure_limit": FailureLimit(max_count=1)},
            FailureLimitError,
            "The rest was not scored",
        ),
    ],
    ids=["predict", "read", "limit"],
)
def test_error_in_a_step_is_raised_as_itself(tmp_path, hinted, capfd, settings, error, message):
    job = job_of(f"{tmp_path}/out", folder=tmp_path, **{**damage(tmp_path), **settings})
    with pytest.raises(error, match=message):
        run(job, Beam(accelerator=T4))
    assert tree(tmp_path / "out") == []
    assert capfd.readouterr().err == ""


CALLS, TOLD = [], threading.Event()


def waiting(records):
    CALLS.append(records)
    if len(CALLS) > 2 and not TOLD.wait(30):
        raise ModelError("Nobody was told of a prediction within 30 s.")  # which ends the run
    return lengths(records)


def test_progress_shows_predictions_before_any_unit_is_written(tmp_path, hinted):
    for i in range(3):  # None is bad: the search for it would take the calls that may go on.
        write_tfrecord(tmp_path / f"in/{i}.gz", [b"%d-%d" % (i, j) for j in range(40)])
    CALLS.clear()
    TOLD.clear()
    seen = []

    def show(progress):
        seen.append(progress)
        if progress.predicted:
            TOLD.set()

    settings = {**RAW, "model": model(waiting, takes_records=True)}
    run(job_of(f"{tmp_path}/out", folder=tmp_path, **settings), Beam(min_ram="1GB"), progress=show)
    first = next(progress for progress in seen if progress.predicted)
    assert (first.phase, first.units_done) == ("scoring", 0)
    assert 0 < first.predicted < seen[-1].predicted == 120
    assert 0 < first.bytes_done < first.bytes_total
    assert not any("process-" in name for name in tree(tmp_path / "out"))


MODULE = """
import os
from dataclasses import replace
from pathlib import Path
import numpy as np
from bulk_inferencer import TFRecord


class Noted:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self):
        Path(self.folder, f"locate-{os.getpid()}").touch()
        return 0


class Reader(TFRecord):
    def read(self, file, *bounds):
        folder = os.path.dirname(os.path.dirname(file.path))
        Path(folder, f"read-{os.getpid()}").touch()
        for chunk in super().read(file, *bounds):
            yield replace(chunk, before=Noted(folder))


class Format:
    def reader(self, files, view, kept):
        return Reader()


def load(path):
    return predict


def predict(records):
    if b"bad" in records:
        raise ValueError("it is bad")
    return {"process": np.full(len(records), os.getpid())}
"""


@pytest.mark.slow
def test_who_predicts_is_in_another_process_than_who_reads_and_writes(
    tmp_path, monkeypatch, hinted
):
    records_of_files(tmp_path)
    module = tmp_path / "noted_processes.py"
    module.write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import noted_processes

    job = job_of(
        f"{tmp_path}/out",
        folder=tmp_path,
        model=PythonModel("noted_processes:load", takes_records=True),
        record_format="FORMAT_PROTO",
        input_format=noted_processes.Format(),
        modules=[str(module)],
    )
    summary = run(job, Beam(PROCESSES, accelerator=T4))
    assert (summary.total.predictions_written, summary.total.examples_failed) == (123, 3)
    found = read_predictions(f"{tmp_path}/out/inference_result")
    predicting = {int(own.outputs["process"]) for own in found}

    def processes(what):
        return {int(path.name.partition("-")[2]) for path in tmp_path.glob(f"{what}-*")}

    # Failures are located by those who write them, and the first ones by those who predict, too.
    writing = processes("locate") - predicting
    assert writing
    assert processes("read")
    others = writing | processes("read")
    assert predicting.isdisjoint(others)
    assert os.getpid() not in predicting | others
