"""`bulk-inferencer predict`: a model and inputs in, a folder of results out."""

from __future__ import annotations

import contextlib
import dataclasses
import posixpath
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from bulk_inferencer.cli import ending, live, terminal
from bulk_inferencer.cli.ending import Teller
from bulk_inferencer.cli.engine_options import engine_of, engine_options, is_local
from bulk_inferencer.cli.inputs import Splits, input_options, inputs_of, reading_of
from bulk_inferencer.cli.models import model_of, model_options, modules_of
from bulk_inferencer.cli.modules import files_here, let_import
from bulk_inferencer.cli.options import CommandOfBeam, Pair, beam_options, option
from bulk_inferencer.cli.run_options import run_options, running_of

if TYPE_CHECKING:
    from bulk_inferencer._gate import Decision
    from bulk_inferencer.engines.engine import Engine
    from bulk_inferencer.results import Results
    from bulk_inferencer.results.expectations import Expectations

_GATE, _RUN = "Gate and expectations", "Run"
_ROWS = 5
_EPILOG = """\b
Examples:
  bulk-inferencer predict models/five_times 'data/*.parquet' -o results --keep id
  bulk-inferencer predict models/five_times data.csv --limit 1000
  bulk-inferencer predict grpc://localhost:8500/five_times data.jsonl -o results
  bulk-inferencer predict penguins:load data.csv -o results --model-path model.joblib
  bulk-inferencer predict models/five_times data -o results --blessing eval/blessing
  bulk-inferencer predict models/five_times data -o results -- --direct_num_workers=4
  bulk-inferencer predict models/five_times gs://b/data -o gs://b/results --engine ray

\b
The same call again goes on where an interrupted one stopped.
Behind -- stand options of Apache Beam.
"""


@click.command(cls=CommandOfBeam, epilog=_EPILOG)
@click.argument("model")
@click.argument("inputs", nargs=-1)
@input_options
@option(
    "--split",
    "splits",
    type=Pair("NAME", "PATTERN"),
    multiple=True,
    section="Inputs",
    help="Files of a split, instead of INPUTS; may be given several times.",
)
@model_options
@run_options
@engine_options
@option(
    "--blessing",
    "blessings",
    metavar="FOLDER",
    multiple=True,
    section=_GATE,
    help="Score only if the marker file in this folder blesses the model: BLESSED as Evaluator "
    "writes it, or INFRA_BLESSED.",
)
@option(
    "--expectations",
    metavar="FILE",
    section=_GATE,
    help="What the predictions must be like, in YAML or JSON; if they are not, the exit code is 4.",
)
@option(
    "--baseline",
    metavar="FOLDER",
    default="",
    section=_GATE,
    help="Earlier results, for expectations about how much the predictions have changed.",
)
@option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    section=_RUN,
    help="A trial: score the first N records of each split, and tell what all of them would take. "
    "Without --output, nothing is kept.",
)
@option(
    "--restart",
    is_flag=True,
    section=_RUN,
    help="Delete what an unfinished run left in the output folder, and start anew.",
)
@option("-q", "--quiet", is_flag=True, section=_RUN, help="Say nothing but errors.")
@option(
    "--json", "as_json", is_flag=True, section=_RUN, help="Write the summary to stdout as JSON."
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str,
    inputs: tuple[str, ...],
    output: str | None,
    quiet: bool,
    as_json: bool,
    blessings: tuple[str, ...],
    expectations: str | None,
    limit: int | None,
    **given: Any,
) -> None:
    """Score INPUTS with MODEL, and write the predictions to a folder.

    MODEL is the folder of a SavedModel, grpc://host:port/model, a Vertex AI endpoint
    (projects/.../endpoints/...), or module:function, which loads any model in Python. INPUTS are
    files, folders or patterns: TFRecord, Parquet, CSV, JSON Lines, or files that are a record each.
    """
    if not output and not limit:
        raise click.UsageError(
            "There is no folder for the results. Name one with --output, or try --limit 1000."
        )
    splits = inputs_of(inputs, given.pop("splits"))
    teller = Teller(quiet, as_json)
    terminal.warnings_are_wanted(ctx, not quiet)
    teller.say(f"Scoring {_shown(splits)} with {model}.")
    started = time.monotonic()
    decision = _decision(blessings)
    if not decision.is_open:
        teller.show(ending.refusal(model, decision), is_error=True)
        teller.hand_over(
            {"state": ending.REFUSED, "gate": decision.verdict, "gate_reason": decision.reason}
        )
        ctx.exit(terminal.REFUSED)
    with contextlib.redirect_stdout(sys.stderr):  # what the user's modules print
        settings = _settings(ctx, model, limit, given)
    settings["gate"] = decision
    if expectations is not None:
        settings["expectations"] = _expectations(expectations)
    with _folder(output) as folder:
        is_there = _is_done(folder, settings["engine"])
        results = _run(ctx, settings, splits, folder, quiet)
        from bulk_inferencer.cli.estimate import estimate

        assert results.summary
        (branch,) = results.summary.branches.values()
        fails = branch.meets_expectations is False
        state = ending.NOT_AS_EXPECTED if fails else ending.DONE_BEFORE if is_there else ending.DONE
        document = ending.document(results, output or "", state)
        if limit and (rows := results.head(_ROWS)).num_rows:
            teller.table(rows)
        seconds = 0.0 if is_there else time.monotonic() - started
        teller.show(ending.balance(results.summary, branch, seconds))
        teller.show(ending.failures(branch, output or ""))
        if limit:
            found = estimate(results.summary, limit, _bytes_of_a_row(results, given["table"]))
            document["trial"] = dataclasses.asdict(found) if found else None
            teller.show(ending.trial(found, given["max_failed_fraction"]))
        teller.show(ending.expectations(branch), is_error=fails)
        if output:
            teller.show(ending.next_steps(output))
        teller.hand_over(document)
    ctx.exit(terminal.EXPECTATIONS_NOT_MET if fails else terminal.DONE)


def _settings(
    ctx: click.Context, model: str, limit: int | None, given: dict[str, Any]
) -> dict[str, Any]:
    """Returns the arguments of `predict` that options stand for."""
    engine, given = engine_of(given, beam_options(ctx))
    reading, given = reading_of(given)
    running, given = running_of(given, is_trial=limit is not None)
    others = {name: given.pop(name) for name in ("baseline", "restart")}
    modules = list(given.pop("modules"))
    let_import(modules)
    own = {"model": model_of(model, **given), "limit": limit}
    if not is_local(engine):
        modules += files_here(modules_of(model, given), modules)
    return {**reading, **running, **others, **own, "engine": engine, "modules": modules}


def _decision(blessings: tuple[str, ...]) -> Decision:
    """Returns whether the model may run, by the markers in the folders of blessings."""
    from bulk_inferencer._gate import UNASKED

    if not blessings:
        return UNASKED
    from bulk_inferencer import _access, _markers

    _access.check_access(blessings)
    return _markers.decision_of(blessings)


def _expectations(path: str) -> Expectations:
    from bulk_inferencer._layout import INFERENCE_RESULT
    from bulk_inferencer.errors import SettingsError
    from bulk_inferencer.results.expectations import read_expectations

    by_model = read_expectations(path)
    if list(by_model) != [INFERENCE_RESULT]:
        raise SettingsError(
            f"{path} has expectations by the names of several models, but here is one without a "
            f"name. Write the fields, such as outputs, at the top of the file."
        )
    return by_model[INFERENCE_RESULT]


@contextlib.contextmanager
def _folder(output: str | None) -> Iterator[str]:
    """Yields the folder for the results: the one that was named, or one for the time being."""
    if output:
        yield output
        return
    from bulk_inferencer._signals import ended_by_sigterm

    with ended_by_sigterm(), tempfile.TemporaryDirectory(prefix="bulk-inferencer-") as folder:
        yield f"{folder}/results"


def _is_done(output: str, engine: Engine) -> bool:
    """Returns whether a run has committed to a folder already."""
    from bulk_inferencer import _files
    from bulk_inferencer._layout import SUMMARY_FILE

    folder = _files.as_path("--output", output)
    engine.open_filesystems([folder])
    return _files.exists(posixpath.join(folder, "summary", SUMMARY_FILE))


def _run(
    ctx: click.Context, settings: dict[str, Any], splits: Splits, output: str, quiet: bool
) -> Results:
    with live.watching(quiet) as watch, contextlib.ExitStack() as stack:
        from bulk_inferencer._predict import predict
        from bulk_inferencer.engines.beam_workers import silent_workers

        if not terminal.is_debug(ctx):
            stack.enter_context(silent_workers())
        return predict(inputs=splits, output=output, progress=watch, **settings)


def _bytes_of_a_row(results: Results, table_format: str) -> int:
    """Returns how large a file with the first row of a table is; 0 if there is no table."""
    if table_format == "none":
        return 0
    from bulk_inferencer._formats.table_writer import table_writer

    row = results.head(1)
    writer = table_writer(table_format, row.schema)
    return len(writer.add(row)) + len(writer.end())


def _shown(splits: Splits) -> str:
    """Returns what is scored, in few words."""
    patterns = [pattern for own in splits.values() for pattern in own]
    more = len(patterns) - 1
    return patterns[0] + (f" and {more} more" if more else "")
