"""Runs an example pipeline on this machine, checks its predictions and shows them.

    python -m pipelines.run_local five_times_table
    python -m pipelines.run_local penguins
    python -m pipelines.run_local five_times_table --bad-model

Each run starts in an empty working directory: what an earlier run left there is removed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import os
import shutil
import sys
import textwrap
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# TFX, and what imports it, is imported inside functions: it takes seconds and writes warnings,
# so first a line on the terminal says what is going on and stderr leads to the log.

PIPELINES = {
    "five_times_table": "A model learns y = 5x from examples, then predicts y for x without one.",
    "penguins": "A classifier learns the species of penguins, then names birds without a label.",
}

# Beam's DirectRunner would first try to download another runner; this one is there already.
BEAM_PIPELINE_ARGS = ("--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",)

_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_DATA, _ARTIFACTS, _METADATA, _LOG = "data", "artifacts", "metadata.sqlite", "run_local.log"


def main(argv: list[str] | None = None) -> int:
    """Does what the command line asks for; returns 0 only if everything is as it should be."""
    args = _parse_args(argv)
    default = os.path.join("build", args.name + ("_bad_model" if args.bad_model else ""))
    workdir = os.path.abspath(args.workdir or os.path.join(_CHECKOUT, default))
    log = os.path.join(workdir, _LOG)
    try:
        clear(workdir)
    except FileExistsError as error:
        print(error, file=sys.stderr)
        return 2
    with _stderr_to(log):
        try:
            problems = _run_and_show(args.name, workdir, bad_model=args.bad_model)
        except Exception as error:  # noqa: BLE001  Reported and logged, whatever it is.
            traceback.print_exc()
            # Beam puts whole tracebacks into its messages; what matters comes last.
            message = "\n".join(str(error).splitlines()[-5:])
            problems = [f"{type(error).__name__}: {message}\nFull log: {_short(log)}"]
    _say("")
    for line in "\n".join(f"FAILED: {problem}" for problem in problems).splitlines():
        _say(textwrap.fill(line, 98, subsequent_indent="  ", break_long_words=False))
    if not problems:
        _say("OK: the gate closed." if args.bad_model else "OK: all predictions checked.")
    return 1 if problems else 0


def clear(workdir: str) -> None:
    """Makes `workdir` an empty directory, but removes nothing that is not from an earlier run.

    Raises:
      FileExistsError: `workdir` holds something else, or is a file.
    """
    if os.path.exists(workdir) and not os.path.isdir(workdir):
        raise FileExistsError(f"Expected a directory for --workdir, got the file {workdir}.")
    os.makedirs(workdir, exist_ok=True)
    names = set(os.listdir(workdir))
    strangers = names - {_DATA, _ARTIFACTS, _METADATA, _LOG}
    # A folder called "data" may be anybody's; our log is the first that a run writes.
    if strangers or (names and _LOG not in names):
        raise FileExistsError(
            f"Expected an empty directory or one from an earlier run, got {workdir} with "
            f"{', '.join(sorted(strangers or names)[:3])}. Name another one with --workdir."
        )
    for path in (os.path.join(workdir, name) for name in names):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


def run(name: str, workdir: str, *, bad_model: bool = False) -> tuple[Any, Outcome]:
    """Makes the data of pipeline `name` in `workdir` and runs it there.

    Args:
      name: one of PIPELINES.
      workdir: an empty directory.
      bad_model: whether to stop training after one step, with a model that no Evaluator blesses.

    Returns:
      The data (`Data` of the pipeline's own module) and what ML Metadata says about the run.
    """
    # Trainer would build a wheel of the model's file, and needs pip for it.
    os.environ.setdefault("UNSUPPORTED_DO_NOT_PACKAGE_USER_MODULES", "1")
    from tfx import v1 as tfx

    data = _module(name, "data").make_data(os.path.join(workdir, _DATA))
    metadata = os.path.join(workdir, _METADATA)
    pipeline = _module(name, "pipeline").create_pipeline(
        pipeline_name=name,
        pipeline_root=os.path.join(workdir, _ARTIFACTS),
        data_root=data.data_root,
        inference_data_root=data.inference_data_root,
        enable_cache=False,
        metadata_connection_config=(
            tfx.orchestration.metadata.sqlite_metadata_connection_config(metadata)
        ),
        beam_pipeline_args=BEAM_PIPELINE_ARGS,
        **({"train_steps": 1} if bad_model else {}),
    )
    tfx.orchestration.LocalDagRunner().run(pipeline)
    return data, read_outcome(metadata, name)


@dataclass(frozen=True)
class Outcome:
    """What ML Metadata says about one run of BulkInferencer and of the Evaluator before it.

    Attributes:
      execution_id: id of BulkInferencer's execution.
      state: last known state of that execution; "COMPLETE" after a run without errors.
      gate: "blessed", "not_blessed" or "no_blessing".
      counts: `examples_read`, `predictions_written` and `examples_failed`.
      inference_result: folder with the predictions.
      summary: file with the same counts, and more.
      evaluation: folder with Evaluator's metrics.
    """

    execution_id: int
    state: str
    gate: str
    counts: dict[str, int]
    inference_result: str
    summary: str
    evaluation: str


def read_outcome(metadata_path: str, pipeline_name: str) -> Outcome:
    """Reads the outcome of the latest run from ML Metadata's SQLite file."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = metadata_path
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    store = metadata_store.MetadataStore(config)

    def latest(node_id: str) -> tuple[Any, dict[str, Any]]:
        context = store.get_context_by_type_and_name("node", f"{pipeline_name}.{node_id}")
        execution = max(store.get_executions_by_context(context.id), key=lambda e: e.id)
        outputs = {
            event.path.steps[0].key: store.get_artifacts_by_id([event.artifact_id])[0]
            for event in store.get_events_by_execution_ids([execution.id])
            if event.type == metadata_store_pb2.Event.OUTPUT
        }
        return execution, outputs

    _, evaluated = latest("Evaluator")
    execution, inferred = latest("BulkInferencer")
    result = inferred["inference_result"]
    properties = dict(result.custom_properties)  # The proto's map has a 0 for what is missing.
    return Outcome(
        execution_id=execution.id,
        state=metadata_store_pb2.Execution.State.Name(execution.last_known_state),
        gate=properties["gate"].string_value,
        counts={
            name: properties[name].int_value
            for name in ("examples_read", "predictions_written", "examples_failed")
        },
        inference_result=result.uri,
        summary=os.path.join(inferred["summary"].uri, "summary.json"),
        evaluation=evaluated["evaluation"].uri,
    )


def check(outcome: Outcome, *, records: int, predictions: int, bad_model: bool) -> list[str]:
    """Returns what is wrong with an outcome; nothing if all is as it should be.

    Args:
      outcome: what ML Metadata says.
      records: number of unlabelled records that were generated.
      predictions: number of predictions that were read back.
      bad_model: whether the gate should be closed.
    """
    scored = 0 if bad_model else records
    total = outcome.counts["predictions_written"] + outcome.counts["examples_failed"]
    with open(outcome.summary) as file:
        summary = json.load(file)
    facts = [
        ("BulkInferencer's state in ML Metadata", "COMPLETE", outcome.state),
        ("the gate", "not_blessed" if bad_model else "blessed", outcome.gate),
        ("records read", scored, outcome.counts["examples_read"]),
        ("records predicted or failed", scored, total),
        ("predictions in the files", outcome.counts["predictions_written"], predictions),
        ("the gate in summary.json", outcome.gate, summary["gate"]),
    ]
    facts += [
        (f"{name} in summary.json", count, summary["total"][name])
        for name, count in outcome.counts.items()
    ]
    return [
        f"{what}: expected {expected}, got {got}."
        for what, expected, got in facts
        if expected != got
    ]


def _run_and_show(name: str, workdir: str, *, bad_model: bool) -> list[str]:
    """Runs a pipeline, prints what came of it and returns what is wrong."""
    _say(f"{name}\n{PIPELINES[name]}")
    if bad_model:
        _say("This time its training stops after one step: Evaluator should not bless the model.")
    _say("\nSteps")
    with _progress():
        data, outcome = run(name, workdir, bad_model=bad_model)
    from bulk_inferencer import read_predictions
    from bulk_inferencer.results.summary import Summary

    report = _module(name, "report")
    # A closed gate leaves an empty folder, in which the reader would miss its files.
    written = os.listdir(outcome.inference_result)
    results = report.parse(read_predictions(outcome.inference_result)) if written else []
    problems = check(outcome, records=data.records, predictions=len(results), bad_model=bad_model)

    blessed = outcome.gate == "blessed"
    _say("\nGate")
    _say_pairs(
        ("Evaluator", "blessed the model" if blessed else "did not bless the model"),
        *([] if blessed else [("because", _why_not_blessed(outcome.evaluation))]),
        ("BulkInferencer", "scored the records" if blessed else "did not read a record"),
        ("ML Metadata", f"execution {outcome.execution_id}: {outcome.state}, {outcome.gate}"),
    )
    if blessed:
        problems += report.problems(results, data)
        _say("\nPredictions")
        _say(textwrap.indent(report.table(results, data), "  "))
    _say("\nCounts")
    _say(
        f"  generated {data.records:,}   read {outcome.counts['examples_read']:,}   "
        f"predicted {outcome.counts['predictions_written']:,}   "
        f"failed {outcome.counts['examples_failed']:,}"
    )
    _say("\nWork")
    for part in str(Summary.read(os.path.dirname(outcome.summary)).work).split("; "):
        _say(f"  {part}")
    _say(f"\nFiles in {_short(workdir)}")
    empty = "" if results else " (empty)"
    _say_pairs(
        ("predictions", os.path.relpath(outcome.inference_result, workdir) + empty),
        ("summary", os.path.relpath(outcome.summary, workdir)),
        ("ML Metadata", _METADATA),
        ("TFX's log", _LOG),
    )
    if not problems:
        _say("\nNext")
        _say(textwrap.indent(_next_steps(name, outcome, bad_model=bad_model), "  "))
    return problems


def _next_steps(name: str, outcome: Outcome, *, bad_model: bool) -> str:
    command = f"{_python()} -m pipelines.run_local"
    if bad_model:
        return f"the same with a good model:  {command} {name}"
    other = next(other for other in PIPELINES if other != name)
    return "\n".join(
        [
            f"see the gate close:  {command} {name} --bad-model",
            f"the other example:   {command} {other}",
            f"make it yours:       pipelines/{name}/pipeline.py",
            "read the predictions:",
            "  from bulk_inferencer import read_predictions",
            f'  folder = "{_short(outcome.inference_result)}"',
            "  for prediction in read_predictions(folder):",
            "      print(prediction.outputs)",
        ]
    )


def _why_not_blessed(evaluation: str) -> str:
    """Returns the metrics of Evaluator that missed their thresholds, in words."""
    import tensorflow_model_analysis as tfma

    reasons = []
    for per_slice in tfma.load_validation_result(evaluation).metric_validations_per_slice:
        for failure in per_slice.failures:
            threshold = failure.metric_threshold.value_threshold
            asked = (
                f"at most {threshold.upper_bound.value:g}"
                if threshold.HasField("upper_bound")
                else f"at least {threshold.lower_bound.value:g}"
            )
            value = failure.metric_value.double_value.value
            reasons.append(f"{failure.metric_key.name} is {value:.4g}, {asked} is asked")
    return "; ".join(reasons) or "no reason given"


class _Progress(logging.Handler):
    """Prints a line per component, from what LocalDagRunner logs before and after each."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._started = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "Component %s is running.":
            self._started = time.monotonic()
            _say(f"  {record.getMessage().split()[1]:<24}", end="")
        elif record.msg == "Component %s is finished.":
            _say(f"{time.monotonic() - self._started:>6.1f} s")


@contextlib.contextmanager
def _progress() -> Iterator[None]:
    """Shows the components of the pipeline that runs within, and how long each takes."""
    started = time.monotonic()
    _say(f"  {'load TFX':<24}", end="")
    from absl import logging as absl_logging

    importlib.import_module("tfx.v1")

    _say(f"{time.monotonic() - started:>6.1f} s")
    verbosity = absl_logging.get_verbosity()
    handler = _Progress()
    absl_logging.set_verbosity(absl_logging.INFO)
    absl_logging.get_absl_logger().addHandler(handler)
    try:
        yield
    finally:
        absl_logging.get_absl_logger().removeHandler(handler)
        absl_logging.set_verbosity(verbosity)
    _say(f"  {'all':<24}{time.monotonic() - started:>6.1f} s")


@contextlib.contextmanager
def _stderr_to(path: str) -> Iterator[None]:
    """Sends what is written to stderr to a file, also what C++ writes past Python."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(path, "a") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)


def _module(name: str, part: str) -> Any:
    return importlib.import_module(f"pipelines.{name}.{part}")


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)


def _say_pairs(*pairs: tuple[str, str]) -> None:
    for key, value in pairs:
        _say(f"  {key:<16}{value}")


def _short(path: str) -> str:
    """Returns the path as seen from here, if that is below here."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def _python() -> str:
    """Returns what to type for the interpreter that runs this."""
    return "python" if shutil.which("python") == sys.executable else _short(sys.executable)


def _parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.run_local",
        description="Runs an example pipeline on this machine, checks its predictions and shows "
        "them.",
        epilog="\n".join(f"{name}: {title}" for name, title in PIPELINES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=PIPELINES, help="which pipeline")
    parser.add_argument(
        "--workdir",
        metavar="DIR",
        help="where data, artifacts and ML Metadata go; what an earlier run left there is removed "
        "(default: build/NAME, or build/NAME_bad_model)",
    )
    parser.add_argument(
        "--bad-model",
        action="store_true",
        help="stop training after one step, to see that the gate closes and nothing is scored",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    code = main()
    # TensorFlow complains while the interpreter shuts down; nobody could act on that.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(code)
