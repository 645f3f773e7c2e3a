"""Shows on the terminal what a pipeline does and what came of it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pipelines.catalogue import PIPELINES

if TYPE_CHECKING:
    from pipelines.outcome import Outcome

Pair = tuple[str, str]


def say(text: str, end: str = "\n") -> None:
    """Prints text now, even where stdout is a pipe."""
    print(text, end=end, flush=True)


def section(title: str, body: str | Iterable[Pair], width: int = 0) -> None:
    """Prints a title, and below it text, or two columns of which the first has a least width."""
    say(f"\n{title}")
    if isinstance(body, str):
        say(textwrap.indent(body, "  "))
        return
    pairs = list(body)
    width = max(width, *(len(key) + 2 for key, _ in pairs))
    for key, value in pairs:
        say(f"  {key:<{width if key else 0}}{value}")


def gate(outcome: Outcome) -> Iterator[Pair]:
    """Yields what the Evaluators and the gate decided."""
    for node, why_not in outcome.evaluations.items():
        yield node, "did not bless the model" if why_not else "blessed the model"
        if why_not:
            yield "because", why_not
    has_scored = any(result.gate == "blessed" for result in outcome.results)
    yield outcome.inferencer, "scored the records" if has_scored else "did not read a record"
    gates = ", ".join(f"{result.model} {result.gate}".strip() for result in outcome.results)
    yield "ML Metadata", f"execution {outcome.execution_id}: {outcome.state}, {gates}"


def counts(outcome: Outcome, generated: int) -> Iterator[Pair]:
    """Yields the counts of each model, and those of each stage of a cascade."""

    def line(**numbers: int) -> str:
        return "   ".join(f"{name} {number:,}" for name, number in numbers.items())

    for result in outcome.results:
        read, predicted, failed = result.counts.values()
        records = line(generated=generated, read=read, predicted=predicted, failed=failed)
        yield result.model, records
        for name, stage in result.summary.stages.items():
            yield name, line(got=stage.records, settled=stage.exited, escalated=stage.escalated)


def work(outcome: Outcome) -> Iterator[Pair]:
    """Yields what scoring took."""
    for result in outcome.results:
        for part in str(result.summary.work).split("; "):
            yield result.model, part


def files(outcome: Outcome, workdir: str) -> Iterator[Pair]:
    """Yields where the outputs are, seen from the working directory."""
    folders = [(f"{result.model} predictions".strip(), result.folder) for result in outcome.results]
    if table := outcome.outputs.get("prediction_table"):
        folders.append(("table", table))
    for title, folder in folders:
        note = "" if os.listdir(folder) else " (empty)"
        yield title, os.path.relpath(folder, workdir) + note
    for name in ("summary", "comparison"):
        if name in outcome.outputs:
            path = os.path.join(outcome.outputs[name], f"{name}.json")
            yield name, os.path.relpath(path, workdir)
    yield "report", os.path.relpath(report_of(outcome), workdir)


def report_of(outcome: Outcome) -> str:
    """Returns the page about the run."""
    return os.path.join(outcome.outputs["summary"], "report.html")


def next_steps(name: str, outcome: Outcome, *, bad_model: bool) -> str:
    """Returns what to try after a run of pipeline `name`."""
    # What to type for the interpreter that runs this.
    python = "python" if shutil.which("python") == sys.executable else short(sys.executable)
    command = f"{python} -m pipelines.run_local"
    if bad_model:
        return f"the same with a good model:  {command} {name}"
    return "\n".join(
        [
            f"look at the rows:    {python} -m bulk_inferencer show {_result_of(outcome)}",
            f"see the gate close:  {command} {name} --bad-model",
            f"the other example:   {command} {PIPELINES[name].similar}",
            f"make it yours:       {PIPELINES[name].file}",
            "read the predictions:",
            *(f"  {line}" for line in _reading(outcome)),
        ]
    )


def _result_of(outcome: Outcome) -> str:
    """Returns the folder of the results that can be read as rows."""
    return short(outcome.outputs["summary"])


def _reading(outcome: Outcome) -> list[str]:
    """Returns Python that reads the predictions."""
    if table := outcome.outputs.get("prediction_table"):
        return ["import pandas", f'pandas.read_parquet("{short(table)}")']
    return [
        "from bulk_inferencer import read_predictions",
        f'folder = "{short(outcome.results[0].folder)}"',
        "for prediction in read_predictions(folder):",
        "    print(prediction.outputs)",
    ]


def verdict(problems: Iterable[str], success: str) -> None:
    """Prints the problems, or else that there are none."""
    say("")
    lines = "\n".join(f"FAILED: {problem}" for problem in problems).splitlines() or [success]
    for line in lines:
        say(textwrap.fill(line, 98, subsequent_indent="  ", break_long_words=False))


def short(path: str) -> str:
    """Returns the path relative to the current directory, if it is below that."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


@contextlib.contextmanager
def progress() -> Iterator[None]:
    """Shows how long TFX takes to import, and each component of the pipeline that runs within."""
    started = time.monotonic()
    say(f"\nSteps\n  {'load TFX':<24}", end="")
    from absl import logging as absl_logging
    from tfx import v1  # noqa: F401

    say(f"{time.monotonic() - started:>6.1f} s")
    verbosity, logger = absl_logging.get_verbosity(), absl_logging.get_absl_logger()
    handler = _Steps()
    absl_logging.set_verbosity(absl_logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        absl_logging.set_verbosity(verbosity)
    say(f"  {'all':<24}{time.monotonic() - started:>6.1f} s")


class _Steps(logging.Handler):
    """Prints a line per component, from what LocalDagRunner logs before and after each."""

    started = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "Component %s is running.":
            self.started = time.monotonic()
            say(f"  {record.getMessage().split()[1]:<24}", end="")
        elif record.msg == "Component %s is finished.":
            say(f"{time.monotonic() - self.started:>6.1f} s")


@contextlib.contextmanager
def stderr_to(path: str) -> Iterator[None]:
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
