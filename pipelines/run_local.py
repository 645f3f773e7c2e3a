"""Runs an example pipeline on this machine, checks its predictions and shows them.

    python -m pipelines.run_local five_times_table
    python -m pipelines.run_local penguins --bad-model

Each run starts in an empty working directory: what an earlier run left there is removed.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from typing import Any

from pipelines import terminal
from pipelines.catalogue import BEAM_PIPELINE_ARGS, PIPELINES
from pipelines.outcome import Outcome, read_outcome
from pipelines.workdir import ARTIFACTS, DATA, LOG, METADATA, clear

_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main(argv: list[str] | None = None) -> int:
    """Does what the command line asks for; returns 0 only if everything is as it should be."""
    args = _parse_args(argv)
    default = os.path.join(_CHECKOUT, "build", args.name + ("_bad_model" if args.bad_model else ""))
    workdir = os.path.abspath(args.workdir or default)
    log = os.path.join(workdir, LOG)
    try:
        clear(workdir)
    except FileExistsError as error:
        print(error, file=sys.stderr)
        return 2
    # TFX and what it imports write many warnings.
    with terminal.stderr_to(log):
        try:
            problems, report = _run_and_show(args.name, workdir, bad_model=args.bad_model)
        except Exception as error:  # noqa: BLE001  Reported and logged, whatever it is.
            traceback.print_exc()
            # Beam puts whole tracebacks into its messages; what matters comes last.
            message = "\n".join(str(error).splitlines()[-5:])
            problems = [f"{type(error).__name__}: {message}\nFull log: {terminal.short(log)}"]
            report = ""
    success = "OK: the gate closed." if args.bad_model else "OK: all predictions checked."
    terminal.verdict(problems, success)
    if report:
        terminal.say(f"The report, for a browser: {report}")
    return 1 if problems else 0


def run(name: str, workdir: str, *, bad_model: bool = False) -> tuple[Any, Outcome]:
    """Runs pipeline `name` in the empty directory `workdir`; a bad model is trained for one step.

    Returns:
      The data that it made first, and what ML Metadata says of the run.
    """
    from tfx import v1 as tfx

    example = PIPELINES[name].load()
    data = example.make_data(os.path.join(workdir, DATA))
    metadata = os.path.join(workdir, METADATA)
    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(metadata)
    pipeline = example.create_pipeline(
        pipeline_name=name,
        pipeline_root=os.path.join(workdir, ARTIFACTS),
        data_root=data.data_root,
        inference_data_root=data.inference_data_root,
        metadata_connection_config=connection,
        beam_pipeline_args=list(BEAM_PIPELINE_ARGS),
        **({"train_steps": 1} if bad_model else {}),
    )
    tfx.orchestration.LocalDagRunner().run(pipeline)
    return data, read_outcome(metadata, pipeline)


def _run_and_show(name: str, workdir: str, *, bad_model: bool) -> tuple[list[str], str]:
    """Runs a pipeline, shows what came of it, and returns what is wrong and where the report is."""
    terminal.say(f"{name}\n{PIPELINES[name].title}")
    if bad_model:
        terminal.say("Training stops after one step, so Evaluator should not bless the model.")
    with terminal.progress():
        data, outcome = run(name, workdir, bad_model=bad_model)
    problems = outcome.problems(records=data.records, bad_model=bad_model)
    terminal.section("Gate", terminal.gate(outcome), width=16)
    if outcome.is_blessed:
        report = PIPELINES[name].load().report(outcome.outputs, data)
        problems += report.problems
        terminal.section("Predictions", report.table)
    terminal.section("Counts", terminal.counts(outcome, data.records))
    terminal.section("Work", terminal.work(outcome))
    files = [*terminal.files(outcome, workdir), ("ML Metadata", METADATA), ("TFX's log", LOG)]
    terminal.section(f"Files in {terminal.short(workdir)}", files, width=16)
    if not problems:
        terminal.section("Next", terminal.next_steps(name, outcome, bad_model=bad_model))
    return problems, terminal.short(terminal.report_of(outcome))


def _parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.run_local",
        description="Run an example pipeline on this machine, check its predictions, show them.",
        epilog="\n".join(f"{name}: {example.title}" for name, example in PIPELINES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=PIPELINES, help="which pipeline")
    parser.add_argument(
        "--workdir",
        metavar="DIR",
        help="for data, artifacts and ML Metadata; what an earlier run left there is removed "
        "(default: build/NAME or build/NAME_bad_model)",
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
