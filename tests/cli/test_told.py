"""What the command line tells: progress, balances, estimates, errors."""

from __future__ import annotations

import dataclasses
import io
import json

import click
import click.testing
import pytest
from rich.console import Console
from rich.live import Live

from bulk_inferencer import Summary
from bulk_inferencer._gate import UNASKED
from bulk_inferencer._progress import Progress
from bulk_inferencer.cli import ending, live, terminal
from bulk_inferencer.cli.estimate import Estimate, estimate
from bulk_inferencer.cli.wording import in_options
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results import BranchSummary, Counts
from bulk_inferencer.results.timeline import Timeline

SCORING = Progress(
    phase="scoring",
    seconds=62,
    bytes_done=500_000,
    bytes_total=2_000_000,
    records=12_345,
    failed=3,
    batch_records=512,
    records_per_second=199.6,
    seconds_left=186,
)


def test_lines_come_every_five_seconds():
    lines, times = [], iter([0.0, 4.9, 5.1, 6.0, 11.0])
    show = live.Lines(lines.append, clock=lambda: next(times))
    for progress in [Progress(), Progress(seconds=5), SCORING, Progress(phase="done")]:
        show(progress)
    assert lines == ["0:05  Preparing"]
    assert live.line_of(SCORING) == (
        "1:02  Scoring  25%  0.5 of 2.0 MB  12,345 records  200 per second  3 failed  "
        "batches of 512  3:06 left"
    )


def test_run_goes_on_if_nobody_reads_its_progress():
    def closed(text):
        raise BrokenPipeError

    times = iter([0.0, 10.0])
    live.Lines(closed, clock=lambda: next(times))(SCORING)


# 100 of 1,000 bytes, at first slowly, in 10 seconds of which 6 are not spent on scoring.
TRIAL = Summary(
    {
        "inference_result": BranchSummary(
            {"s": Counts(100, 90, 10, 1, 50)}, UNASKED, "m", seconds={"plan": 4.0, "score": 6.0}
        )
    },
    bytes_read=100,
    input_bytes=1000,
    timeline=Timeline(
        start=1.0, width=1.0, began=1.0, ended=5.0, records=(10, 20, 30, 30), calls=(1, 1, 1, 1)
    ),
)


def test_estimate_takes_the_rate_of_the_later_half_and_counts_the_start_once():
    # 45 of 90 take half of the third second and the fourth, so all of them 3 seconds.
    assert estimate(TRIAL, 100) == Estimate(1000, 100, 10 - 3 + 3 * 10, 1000, 500, tried=100)
    (line, warning) = ending.trial(estimate(TRIAL, 100), None)
    assert line == (
        "All of them are about 1,000 records, in 1.0 kB. At this rate they take at most about 37 "
        "seconds, the predictions 500 bytes, and about 100 of them fail."
    )
    assert warning.startswith("That is more than 1.00%, ")
    assert list(ending.trial(estimate(TRIAL, 100), 0.1)) == [line]
    (line, _) = ending.trial(dataclasses.replace(estimate(TRIAL, 100), tried=5000), None)
    assert " they take about 37 seconds, " in line


def test_estimate_counts_the_head_of_a_file_once():
    assert estimate(TRIAL, 100, bytes_of_a_row=40).bytes_written == 40 + 10 * 10
    assert estimate(TRIAL, 100, bytes_of_a_row=60).bytes_written == 50


def test_trial_that_was_not_stopped_by_its_limit_has_read_all_records():
    assert list(ending.trial(estimate(TRIAL, 101), None)) == ["These were all records."]


def test_trial_of_nothing_tells_nothing():
    nothing = Summary({"inference_result": BranchSummary({"s": Counts()}, UNASKED, "m")})
    assert list(ending.trial(estimate(nothing, 100), None)) == [
        "The trial read no record, so it cannot tell what all of them would take."
    ]


FAILED = "bulk-inferencer show 'my results' --failed"


def test_many_reasons_become_few_lines_without_control_characters():
    reasons = {f"ValueError: \x1b[31m{i}": 10 - i for i in range(7)}
    branch = BranchSummary({"s": Counts(99, 50, 49)}, UNASKED, "m", failures=reasons)
    lines = list(ending.failures(branch, "my results"))
    assert lines[:2] == ["Failed:", r"  10  ValueError: \x1b[31m0"]
    assert lines[-2:] == ["  2 more reasons", f"  All of them: {FAILED}"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Call run(job, restart=True) to delete them", "Add --restart to delete them"),
        ("for example with rename={'a b': 'x'}.", "for example with --rename 'a b=x'."),
        ("with columns={'x': ['a', 'b', ...]}.", "with --columns x=a,b,...."),
        ("give its type in input_format where they are text, as in CSV(types={'x': 'float32'})",
         "give its type where they are text, as in --format csv --type x=float32"),
        ("Leave out the files that are no inputs, or set input_format.",
         "Leave out the files that are no inputs, or add --format."),
        ("Correct the path, leave it out, or set allow_empty_splits if there may be none.",
         "Correct the path, or leave it out."),
        ("set takes_records=True, and", "add --takes-records, and"),
        ("BatchBounds.max_record_bytes must be", "--max-record-bytes must be"),
        ("more than DamagedFiles.max_count allows", "more than --max-damaged-files allows"),
        ("Correct SavedModel.signatures.", "Correct --signature."),
        ('Read it with input_format="csv".', "Read it with --format csv."),
        ("Ray's num_gpus must be", "--num-gpus must be"),
        ("or raise Beam.worker_timeout_seconds.", "or raise --worker-timeout."),
        ("or let Ray bring them: Ray(runtime_env={'pip': [...]}) for packages",
         "or let Ray bring them: --runtime-env '{\"pip\": [...]}' for packages"),
        ("have: Spark(conf={'spark.pyspark.python': '/path/to/python'}).",
         "have: --conf spark.pyspark.python=/path/to/python."),
        ("or use engines.Spark() in", "or use --engine spark in"),
        ("Name the file in InferenceJob.modules.", "Name the file in --module."),
        ("Output 'y': OutputExpectations.maximum must be", "Output 'y': maximum must be"),
        ("but the table has y. Correct binary.", "but the table has y. Correct --binary."),
        ("Name it in the MyModel.signatures of it", "Name it in the MyModel.signatures of it"),
    ],
)  # fmt: skip
def test_cures_name_options(message, expected):
    assert in_options(message) == expected


def failing(error, as_json=False):
    @click.command()
    @click.pass_context
    def command(ctx):
        if as_json:
            terminal.fail_as_json(ctx)
        with terminal.failing_clearly(ctx):
            raise error

    return click.testing.CliRunner().invoke(command)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (PermissionError(13, "Permission denied", "out"), 1, "Error: Permission denied: out.\n"),
        (ZeroDivisionError("by\n\x1b0"), 1, (
            "Error: ZeroDivisionError: by \\x1b0\nThis was not expected. --debug shows where it "
            "comes from.\n")),
        (SystemExit(0), 1, (
            "Error: The model, or a function around it, called sys.exit(0). Raise an exception "
            "instead.\n")),
    ],
    ids=["interrupt", "file", "bug", "exit"],
)  # fmt: skip
def test_error_is_a_line_or_two_and_an_exit_code(error, code, said):
    result = failing(error)
    assert (result.exit_code, result.stderr) == (code, said)


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (KeyboardInterrupt(), "interrupted", "Interrupted."),
        (PermissionError(13, "Permission denied", "out"), "failed", "Permission denied: out."),
        (SettingsError("TableSettings.keep is wrong."), "wrong usage", "--keep is wrong."),
        (click.UsageError("There is no x."), "wrong usage", "There is no x."),
    ],
    ids=["interrupt", "file", "settings", "usage"],
)
def test_error_is_also_a_json_document_where_one_is_wanted(error, state, said):
    assert json.loads(failing(error, as_json=True).stdout) == {"state": state, "error": said}


def test_json_has_no_numbers_that_other_readers_refuse(capsys):
    terminal.write_json({"a": [float("nan"), 1.5], "b": {"c": float("inf")}})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": {"c": None}}


def test_what_is_said_stands_above_a_display_that_updates_itself():
    console = Console(file=io.StringIO(), force_terminal=True)
    with Live("the display", console=console):
        terminal.say("a warning")
    assert "a warning\n" in console.file.getvalue()


def test_reader_of_a_table_that_has_seen_enough_is_told_apart_from_a_model_that_exits():
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    console = terminal.console()
    console.file = Closed()
    with pytest.raises(BrokenPipeError):
        console.print("a row")
