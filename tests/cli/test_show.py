"""`show`, `compare` and `report`, on the results of a real run."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from bulk_inferencer import (
    Branch,
    Decision,
    FailureLimit,
    InferenceJob,
    Outputs,
    PythonModel,
    predict,
    run,
)
from bulk_inferencer.results import read
from tests.helpers import example, write_tfrecord

EVIL = "[red]\x1b[31m"


def times(factor, features):
    if (features["x"] == 3).any():
        raise ValueError(f"three {EVIL}")
    return {"y": factor * features["x"], "v": np.stack([features["x"]] * 64, 1)}


def five(path):
    return lambda features: times(5, features)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`r` and `older`, of which record 3 failed; and `closed`, of a model that did not run."""
    folder = tmp_path_factory.mktemp("made")
    ids = np.arange(40)
    table = pa.table({"id": ids, "x": ids.astype(np.float32), "evil\x1b[1m": [EVIL] * 40})
    for name, factor in (("r", 5), ("older", 10)):
        predict(
            lambda features, factor=factor: times(factor, features),
            table,
            folder / name,
            columns=["x"],
            failure_limit=FailureLimit(max_fraction=0.5),
        )
    inputs = {"s": [write_tfrecord(folder / "records", [example(x=1.0)])]}
    gate = Decision("not_blessed", f"It is worse. {EVIL}")
    model = PythonModel(f"{__name__}:five")
    branches = [Branch(n, model, str(folder / "closed" / n), gate) for n in ("five", "ten")]
    run(InferenceJob(splits=inputs, branches=branches, outputs=Outputs.under(folder / "closed")))
    return folder


@pytest.fixture
def shown(call, made, monkeypatch):
    """Calls a command in the folder of the results, with a width; returns stdout line by line."""
    monkeypatch.chdir(made)

    def call_with(*args, width=100):
        monkeypatch.setenv("COLUMNS", str(width))
        code, out, err = call(*args)
        assert (code, err) == (0, "")
        assert "\x1b" not in out
        return out.splitlines()

    return call_with


def refused(call, *args):
    """Returns the message of a call that is refused, which must be one of a line."""
    code, out, err = call(*args)
    assert (code, out) == (2, "")
    return err.splitlines()[-1].removeprefix("Error: ")


# show


def test_rows_are_a_table_below_what_the_run_did(shown):
    lines = shown("show", "r", "-n", "2", "--columns", "id,y,v")
    assert lines[0] == "r"
    assert lines[1].startswith("40 read, 39 predicted, 1 failed by python:")
    assert lines[2] == "gate: no_blessing. No blessing was asked for."
    assert [line.rstrip() for line in lines[4:7]] == [
        "id    y  v",
        " 0  0.0  [0, 0, 0, … 61 more]",
        " 1  5.0  [1, 1, 1, … 61 more]",
    ]
    assert lines[8] == "2 rows of 39; -n shows more, and --to FILE writes all of them."
    assert "evil\\x1b[1m" in shown("show", "r")[4]
    assert len(shown("show", "r", "-n", "100")) == 39 + 7


def test_columns_without_room_are_named(shown):
    lines = shown("show", "r", width=20)
    assert max(map(len, lines[4:-4])) <= 20
    note = "2 columns left out for want of room: x, evil\\x1b[1m; --columns chooses."
    assert " ".join(" ".join(lines).split()).endswith(note)


def test_failures_come_with_their_reasons(shown):
    lines = shown("show", "r", "--failed", "--columns", "record,reason")
    assert lines[4].split() == ["record", "reason"]
    assert lines[5].split() == ["3", "ValueError:", "three", r"[red]\x1b[31m"]
    assert shown("show", "closed", "--failed")[-1] == "No record failed."


def test_model_that_did_not_run_is_shown_with_the_reason(shown):
    reason = r"did not run, gate: not_blessed. It is worse. [red]\x1b[31m"
    expected = ["2 models, side by side", f"five: {reason}", f"ten: {reason}", "There are no rows."]
    assert shown("show", "closed")[1:] == expected


def test_json_is_one_document(call_json, made):
    found = call_json("show", made / "r", "-n", "1", "--columns", "id,y", "--json")
    (model,) = found["models"].values()
    assert model["counts"]["inputs"]["examples_failed"] == 1
    assert (found["columns"]["y"], found["rows"]) == ("float", [{"id": 0, "y": 0.0}])
    (failure,) = call_json("show", made / "r", "--failed", "--json")["failures"]
    assert (failure["record"], failure["reason"]) == (3, f"ValueError: three {EVIL}")


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "PARQUET"])
def test_all_rows_are_written_in_the_format_that_the_ending_tells(shown, made, tmp_path, ending):
    target = tmp_path / f"rows.{ending}"
    (line,) = shown("show", "r", "--to", target, "--columns", "y,id")
    assert line.startswith(f"Wrote 39 rows to {target} (")
    expected = read(made / "r").to_arrow().select(["y", "id"])
    if ending == "jsonl":
        found = [json.loads(line) for line in target.read_text().splitlines()]
        assert found == expected.to_pylist()
    else:
        own = pyarrow.csv.read_csv if ending == "csv" else pq.read_table
        assert own(target).cast(expected.schema) == expected


def test_failures_are_written_too(call_json, made, tmp_path):
    found = call_json("show", made / "r", "--failed", "--to", tmp_path / "f.csv", "--json")
    assert (found["rows"], found["bytes"]) == (1, (tmp_path / "f.csv").stat().st_size)
    assert pyarrow.csv.read_csv(tmp_path / "f.csv")["record"].to_pylist() == [3]


def test_file_that_exists_is_replaced_only_where_that_is_asked_for(call, made, tmp_path):
    target = tmp_path / "rows.csv"
    target.write_text("older")
    message = f"{target} exists already. Name another file, or replace it with --force."
    assert refused(call, "show", made / "r", "--to", target) == message
    assert target.read_text() == "older"
    assert call("show", made / "r", "--to", target, "--force")[0] == 0
    assert len(target.read_text().splitlines()) == 40


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--to", "r.txt"],
         ("The ending of a file's name tells its format: .parquet, .csv, .jsonl. r.txt has none of "
         "these. Choose one.")),
        (["--to", "a.csv", "-n", "1"], "--to writes all rows. Leave out -n."),
        (["--force"], "--force replaces the file of --to. Name the file with --to."),
        (["--to", "a.csv", "--columns", "yy"],
         ("There is no column 'yy' in the results, but id, x, evil\\x1b[1m, y, v. Did you mean "
          "'y'? Correct --columns.")),
        (["--model", "six"],
         "There is no model 'six' in {}, only inference_result. Correct --model."),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_a_line(call, made, args, message):
    assert refused(call, "show", made / "r", *args) == message.format(made / "r")


@pytest.mark.slow
def test_on_a_terminal_rows_are_as_wide_as_it_is(made):
    """In a real process: the first line comes before TensorFlow could have been imported."""
    main, terminal = pty.openpty()
    command = [sys.executable, "-X", "importtime", "-m", "bulk_inferencer", "show", "r", "-n", "1"]
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm"}
    with os.fdopen(main, "rb", 0) as screen:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
        done = subprocess.run(
            command, cwd=made, env=environment, stdout=terminal, stderr=subprocess.PIPE, check=True
        )
        os.close(terminal)
        lines = screen.read(1 << 16).decode().splitlines()
    assert lines[0] == "\x1b[1mr\x1b[0m"
    plain = [re.sub(r"\x1b\[\d*m", "", line) for line in lines]
    (head,) = (i for i, line in enumerate(plain) if line.startswith("id "))
    assert 40 < len(plain[head + 1]) <= 50
    assert b" tensorflow\n" not in done.stderr


# compare


def test_two_results_are_compared(shown):
    lines = shown("compare", "r", "older", "--key", "id", "-n", "1")
    assert lines[:2] == ["r", "older"]
    assert lines[3] == "Records are joined by id."
    assert [line.split() for line in lines[5:7]] == [
        ["r", "40", "1", "0", "39"],
        ["older", "40", "1", "0", "39"],
    ]
    (y,) = (line.split() for line in lines if line.startswith("y "))
    assert y == ["y", "39", "2.6", "%", "99.6154", "195"]
    (worst,) = (line.split() for line in lines if line.startswith("id 39"))
    assert worst[:5] == ["id", "39", "195", "390", "195"]


def test_outcomes_of_two_results_are_compared(call, call_json, made, tmp_path):
    (tmp_path / "o.csv").write_text("key,value\n1,2\n3,100\n4,4\n")
    folders = [made / "r", made / "older"]
    found = call_json(
        "compare", *folders, "--key", "id", "--outcomes", tmp_path / "o.csv", "--json"
    )
    assert found["results"] == {own.name: str(own) for own in folders}
    assert (found["both"], found["only"], found["joined_by"]) == (39, {"r": 0, "older": 0}, ["id"])
    assert found["comparison"]["outcomes"]["older"]["mean"] == 3.0
    message = "--outcomes needs --key, the column that holds their keys."
    assert refused(call, "compare", *folders, "--outcomes", "o.csv") == message


@pytest.mark.parametrize(
    ("folders", "models", "names"),
    [
        (("r", "older"), ("", ""), ["r", "older"]),
        (("./r/", "../made0/older"), ("", ""), ["r", "older"]),
        (("r", "r"), ("", ""), ["r (A)", "r (B)"]),
        (("a/r", "b/r"), ("", ""), ["a/r", "b/r"]),
        (("r", "r"), ("five", "ten"), ["five", "ten"]),
        (("r", "r"), ("five", "five"), ["r (A)", "r (B)"]),
    ],
)
def test_results_have_short_names_that_differ(folders, models, names):
    from bulk_inferencer.cli.compare import names_of

    assert list(names_of(folders, tuple(own or None for own in models))) == names


# report


def test_report_is_written_into_the_current_folder_over_an_older_one(
    call, tmp_path, made, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.html").write_text("my own page")
    message = "report.html exists already. Name another file, or replace it with --force."
    assert refused(call, "report", made / "r") == message
    message = f"{tmp_path} is a folder. Name a file to write to."
    assert refused(call, "report", made / "r", "-o", tmp_path) == message
    assert (tmp_path / "report.html").read_text() == "my own page"
    code, out, _ = call("report", made / "r", "--force")
    assert (code, out.startswith("Wrote report.html (")) == (0, True)
    first = (tmp_path / "report.html").read_text()
    code, _, _ = call("report", made / "r", "--against", made / "older")
    assert code == 0
    assert first != (tmp_path / "report.html").read_text()
