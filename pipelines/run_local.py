"""Runs an example pipeline on this machine, checks its predictions and shows them.

    python -m pipelines.run_local five_times_table
    python -m pipelines.run_local penguins
    python -m pipelines.run_local penguins_cascade
    python -m pipelines.run_local five_times_table --bad-model

Each run starts in an empty working directory: what an earlier run left there is removed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import shutil
import sys
import textwrap
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

# TFX, and what imports it, is imported inside functions: it takes seconds and writes warnings,
# so first a line on the terminal says what is going on and stderr leads to the log.


class Example(NamedTuple):
    """A pipeline to run.

    Attributes:
      title: what it does.
      package: where its modules are: `data`, and with the prefix `pipeline` and `report`.
      prefix: what tells them from those of other pipelines of the package.
    """

    title: str
    package: str
    prefix: str = ""


PIPELINES = {
    "five_times_table": Example(
        "A model learns y = 5x from examples, then predicts y for x without one.",
        "five_times_table",
    ),
    "five_times_table_branch": Example(
        "Two models learn y = 5x and y = 10x, then both predict y for x without one.",
        "five_times_table",
        "branch_",
    ),
    "five_times_table_cascade": Example(
        "Two models learn y = 5x and y = 10x, then ten takes what five predicts: y = 50x.",
        "five_times_table",
        "cascade_",
    ),
    "penguins": Example(
        "A classifier learns the species of penguins, then names birds without a label.",
        "penguins",
    ),
    "penguins_cascade": Example(
        "A small classifier names the penguins it is sure of, a full one those that remain.",
        "penguins",
        "cascade_",
    ),
}

# Beam's DirectRunner would first try to download another runner; this one is there already.
BEAM_PIPELINE_ARGS = ("--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",)

_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_DATA, _ARTIFACTS, _METADATA, _LOG = "data", "artifacts", "metadata.sqlite", "run_local.log"
_COUNTS = ("examples_read", "predictions_written", "examples_failed")

Pair = tuple[str, str]


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
        beam_pipeline_args=list(BEAM_PIPELINE_ARGS),
        **({"train_steps": 1} if bad_model else {}),
    )
    tfx.orchestration.LocalDagRunner().run(pipeline)
    return data, read_outcome(metadata, pipeline)


@dataclass(frozen=True)
class Evaluation:
    """What came of one Evaluator.

    Attributes:
      blessed: whether it blessed its model.
      folder: where its metrics are.
    """

    blessed: bool
    folder: str


@dataclass(frozen=True)
class Result:
    """What ML Metadata says of one output with predictions, and what its summary says.

    Attributes:
      folder: where the predictions are.
      gate: "blessed", "not_blessed" or "no_blessing".
      counts: `examples_read`, `predictions_written` and `examples_failed`.
      summary: the `Summary` of the same run.
    """

    folder: str
    gate: str
    counts: dict[str, int]
    summary: Any


@dataclass(frozen=True)
class Outcome:
    """What ML Metadata says about one run of an inferencer and of the Evaluators before it.

    Attributes:
      inferencer: id of the inferencer: BulkInferencer, BranchInferencer or CascadeInferencer.
      execution_id: id of its execution.
      state: last known state of that execution; "COMPLETE" after a run without errors.
      outputs: the folders of all its outputs, by their names.
      results: those outputs that are predictions, by their names: with several models, the models'.
      evaluations: what came of each Evaluator, by its id.
    """

    inferencer: str
    execution_id: int
    state: str
    outputs: dict[str, str]
    results: dict[str, Result]
    evaluations: dict[str, Evaluation]

    @property
    def blessed(self) -> bool:
        """Whether every model was."""
        return all(result.gate == "blessed" for result in self.results.values())

    def named(self) -> list[tuple[str, Result]]:
        """Returns each result with what to call it: nothing if it is the only one."""
        is_only = len(self.results) == 1
        return [("" if is_only else name, result) for name, result in self.results.items()]


def read_outcome(metadata_path: str, pipeline: Any) -> Outcome:
    """Reads the outcome of a pipeline's latest run from ML Metadata's SQLite file."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2
    from tfx import v1 as tfx

    from bulk_inferencer import BranchInferencer, BulkInferencer, CascadeInferencer
    from bulk_inferencer.results.summary import BranchSummary, Summary

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = metadata_path
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    store = metadata_store.MetadataStore(config)

    def nodes(*classes: type) -> list[Any]:
        return [node for node in pipeline.components if isinstance(node, classes)]

    def latest(node: Any) -> tuple[Any, dict[str, Any]]:
        name = f"{pipeline.pipeline_info.pipeline_name}.{node.id}"
        context = store.get_context_by_type_and_name("node", name)
        execution = max(store.get_executions_by_context(context.id), key=lambda e: e.id)
        outputs = {
            event.path.steps[0].key: store.get_artifacts_by_id([event.artifact_id])[0]
            for event in store.get_events_by_execution_ids([execution.id])
            if event.type == metadata_store_pb2.Event.OUTPUT
        }
        return execution, outputs

    evaluations = {}
    for node in nodes(tfx.components.Evaluator):
        _, evaluated = latest(node)
        blessed = evaluated["blessing"].custom_properties["blessed"].int_value == 1
        evaluations[node.id] = Evaluation(blessed, evaluated["evaluation"].uri)

    (inferencer,) = nodes(BulkInferencer, BranchInferencer, CascadeInferencer)
    execution, inferred = latest(inferencer)
    folder = inferred["summary"].uri
    summaries = (
        BranchSummary.read(folder).models
        if isinstance(inferencer, BranchInferencer)
        else {"inference_result": Summary.read(folder)}
    )
    results = {}
    for name, summary in summaries.items():
        # The proto's map has a 0 for what is missing.
        properties = dict(inferred[name].custom_properties)
        results[name] = Result(
            folder=inferred[name].uri,
            gate=properties["gate"].string_value,
            counts={count: properties[count].int_value for count in _COUNTS},
            summary=summary,
        )
    return Outcome(
        inferencer=inferencer.id,
        execution_id=execution.id,
        state=metadata_store_pb2.Execution.State.Name(execution.last_known_state),
        outputs={key: artifact.uri for key, artifact in inferred.items()},
        results=results,
        evaluations=evaluations,
    )


def check(outcome: Outcome, *, records: int, bad_model: bool) -> list[str]:
    """Returns what is wrong with an outcome; nothing if all is as it should be.

    Args:
      outcome: what ML Metadata says.
      records: number of unlabelled records that were generated.
      bad_model: whether the gate should be closed.
    """
    scored = 0 if bad_model else records
    facts = [(f"{outcome.inferencer}'s state in ML Metadata", "COMPLETE", outcome.state)]
    for name, result in outcome.named():
        read, predicted, failed = (result.counts[count] for count in _COUNTS)
        of_result = [
            ("the gate", "not_blessed" if bad_model else "blessed", result.gate),
            ("records read", scored, read),
            ("records predicted or failed", scored, predicted + failed),
            ("predictions in the files", predicted, _count_predictions(result.folder)),
            ("the gate in summary.json", result.gate, result.summary.gate),
        ]
        of_result += [
            (f"{count} in summary.json", got, getattr(result.summary.total, count))
            for count, got in result.counts.items()
        ]
        facts += [(f"{name} {what}".strip(), *values) for what, *values in of_result]
    return [
        f"{what}: expected {expected}, got {got}."
        for what, expected, got in facts
        if expected != got
    ]


def _count_predictions(folder: str) -> int:
    from bulk_inferencer import read_predictions

    # A closed gate leaves an empty folder, in which the reader would miss its files.
    return sum(1 for _ in read_predictions(folder)) if os.listdir(folder) else 0


def _run_and_show(name: str, workdir: str, *, bad_model: bool) -> list[str]:
    """Runs a pipeline, prints what came of it and returns what is wrong."""
    _say(f"{name}\n{PIPELINES[name].title}")
    if bad_model:
        _say("This time its training stops after one step: Evaluator should not bless the model.")
    _say("\nSteps")
    with _progress():
        data, outcome = run(name, workdir, bad_model=bad_model)
    problems = check(outcome, records=data.records, bad_model=bad_model)

    _say("\nGate")
    _say_pairs(_gate(outcome))
    if outcome.blessed:
        report = _module(name, "report")
        results = report.read(outcome.outputs)
        problems += report.problems(results, data)
        _say("\nPredictions")
        _say(textwrap.indent(report.table(results, data), "  "))
    _say("\nCounts")
    _say_pairs(_counts(outcome, data.records), width=0)
    _say("\nWork")
    _say_pairs(_work(outcome), width=0)
    _say(f"\nFiles in {_short(workdir)}")
    _say_pairs(_files(outcome, workdir))
    if not problems:
        _say("\nNext")
        _say(textwrap.indent(_next_steps(name, outcome, bad_model=bad_model), "  "))
    return problems


def _gate(outcome: Outcome) -> Iterator[Pair]:
    for node, evaluation in outcome.evaluations.items():
        yield node, f"{'blessed' if evaluation.blessed else 'did not bless'} the model"
        if not evaluation.blessed:
            yield "because", _why_not_blessed(evaluation.folder)
    scored = any(result.gate == "blessed" for result in outcome.results.values())
    yield outcome.inferencer, "scored the records" if scored else "did not read a record"
    gates = ", ".join(f"{name} {result.gate}".strip() for name, result in outcome.named())
    yield "ML Metadata", f"execution {outcome.execution_id}: {outcome.state}, {gates}"


def _counts(outcome: Outcome, generated: int) -> Iterator[Pair]:
    for name, result in outcome.named():
        read, predicted, failed = (result.counts[count] for count in _COUNTS)
        yield name, _told(generated=generated, read=read, predicted=predicted, failed=failed)
        for stage, of in result.summary.stages.items():
            yield stage, _told(got=of.records, settled=of.exited, escalated=of.escalated)


def _told(**counts: int) -> str:
    return "   ".join(f"{name} {count:,}" for name, count in counts.items())


def _work(outcome: Outcome) -> Iterator[Pair]:
    for name, result in outcome.named():
        for part in str(result.summary.work).split("; "):
            yield name, part


def _files(outcome: Outcome, workdir: str) -> Iterator[Pair]:
    for name, result in outcome.named():
        empty = "" if os.listdir(result.folder) else " (empty)"
        path = os.path.relpath(result.folder, workdir)
        yield f"{name} predictions".strip(), path + empty
    for name in ("summary", "comparison"):
        if name in outcome.outputs:
            path = os.path.join(outcome.outputs[name], f"{name}.json")
            yield name, os.path.relpath(path, workdir)
    yield "ML Metadata", _METADATA
    yield "TFX's log", _LOG


def _next_steps(name: str, outcome: Outcome, *, bad_model: bool) -> str:
    command = f"{_python()} -m pipelines.run_local"
    if bad_model:
        return f"the same with a good model:  {command} {name}"
    example = PIPELINES[name]
    others = [other for other, of in PIPELINES.items() if of.package != example.package]
    # One with the same graph, if there is one.
    other = min(others, key=lambda other: PIPELINES[other].prefix != example.prefix)
    folder = next(iter(outcome.results.values())).folder
    return "\n".join(
        [
            f"see the gate close:  {command} {name} --bad-model",
            f"the other example:   {command} {other}",
            f"make it yours:       pipelines/{example.package}/{example.prefix}pipeline.py",
            "read the predictions:",
            "  from bulk_inferencer import read_predictions",
            f'  folder = "{_short(folder)}"',
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
    """Returns `data`, `pipeline` or `report` of an example."""
    example = PIPELINES[name]
    prefix = "" if part == "data" else example.prefix
    return importlib.import_module(f"pipelines.{example.package}.{prefix}{part}")


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)


def _say_pairs(pairs: Iterable[Pair], width: int = 16) -> None:
    """Prints a line per pair, the values below one another; what has no key, without a column."""
    pairs = list(pairs)
    width = max(width, *(len(key) + 2 for key, _ in pairs))
    for key, value in pairs:
        _say(f"  {key:<{width if key else 0}}{value}")


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
        epilog="\n".join(f"{name}: {example.title}" for name, example in PIPELINES.items()),
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
