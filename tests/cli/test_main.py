"""The command line as a whole: help, versions, completion, and what is imported for them."""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import bulk_inferencer
from bulk_inferencer.cli import terminal
from bulk_inferencer.cli.main import COMMANDS

HEAVY = {"numpy", "pandas", "pyarrow", "apache_beam", "tensorflow", "rich", "bokeh", "yaml", "grpc"}
# Prints the modules that are there when the first line is written, or at the end.
SPY = """
import os
import sys
from bulk_inferencer.cli.main import main

class Spy:
    def write(self, text):
        if text:
            print(*sys.modules, file=sys.__stdout__, flush=True)
            os._exit(0)
    def flush(self):
        pass

sys.stdout = sys.stderr = Spy()
main()
"""


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        *([command, "--help"] for command in COMMANDS),
        ["predict", "models/five_times", "data.parquet", "-o", "out"],
        ["inspect", "models/five_times"],
    ],
    ids=" ".join,
)
def test_first_line_comes_before_anything_large_is_imported(args, tmp_path):
    command = [sys.executable, "-c", SPY, *args]
    said = subprocess.check_output(command, cwd=tmp_path, text=True).split()
    assert "bulk_inferencer.cli.main" in said
    assert not HEAVY.intersection(said)


@pytest.mark.parametrize(
    "program",
    [
        [Path(sys.executable).with_name("bulk-inferencer")],
        [sys.executable, "-m", "bulk_inferencer"],
    ],
    ids=["script", "module"],
)
def test_program_and_module_are_the_same(program):
    said = subprocess.check_output([*program, "--version"], text=True)
    assert said == f"bulk-inferencer, version {bulk_inferencer.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0
    assert f"  bulk-inferencer {command} " in out.partition("Examples:")[2]


def test_help_lists_all_commands_and_exit_codes(call):
    out = call("--help")[1]
    assert [line.split()[0] for line in out.partition("Commands:")[2].splitlines()[1:7]] == [
        *COMMANDS
    ]
    assert "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the gate refused the model" in out


def test_command_that_is_misspelt_is_guessed(call):
    code, _, err = call("perdict", "m")
    assert code == 2
    assert err.splitlines()[-1] == (
        "Error: There is no command 'perdict'; there are inspect, predict, show, report, compare, "
        "runs. Did you mean 'predict'?"
    )


PAGE = Path(__file__).parents[2] / "docs/command_line.md"


def test_page_names_options_that_there_are(call):
    known = "".join(call(command, "--help")[1] for command in COMMANDS)
    known = {*re.findall(r"--[a-z-]+", known), "--runner", "--project", "--"}
    named = set(re.findall(r"--[a-z-]*", re.sub(r"\|[ -]+\|.*", "", PAGE.read_text())))
    assert {"--limit", "--blessing", "--to"} <= named <= known


@pytest.mark.slow
def test_first_commands_of_the_page_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = PAGE.read_text().partition("## A first run")[2].partition("\n## ")[0]
    code, commands = re.findall(r"^```\w+\n(.*?)^```$", first, re.DOTALL | re.MULTILINE)
    exec(compile(code, PAGE.name, "exec"), {})
    for command in commands.splitlines():
        program = [sys.executable, "-m", "bulk_inferencer", *shlex.split(command)[1:]]
        subprocess.run(program, check=True, capture_output=True)
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        *('"id","y"', '"a",7.5', '"b",12.5', '"c",20.0'),
    ]
    assert (tmp_path / "report.html").exists()


def test_shell_completes_commands_and_options():
    def completed(words):
        environment = {
            "_BULK_INFERENCER_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        command = [sys.executable, "-m", "bulk_inferencer"]
        return subprocess.check_output(command, env=environment, text=True).split()

    assert completed("bulk-inferencer pre") == ["plain,predict"]
    assert completed("bulk-inferencer predict --max-fai") == [
        *("plain,--max-failed-fraction", "plain,--max-failed")
    ]
    assert completed("bulk-inferencer show res") == ["file,res"]
    assert completed("bulk-inferencer predict -o res") == ["dir,res"]


def test_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "bulk_inferencer", "predict", "--help"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        child.stdout.close()
        assert child.stderr.read() == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">/dev/full"])
def test_stream_that_cannot_be_written_to_is_no_traceback(closed):
    command = ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-m", "bulk_inferencer"]
    said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    assert "Traceback" not in said.stderr
    assert said.returncode == ("full" in closed)


INTERRUPTED = """
import sys
from bulk_inferencer.__main__ import main

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
main()
"""


def test_interrupt_before_anything_has_begun_is_no_traceback():
    command = [sys.executable, "-c", INTERRUPTED]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (130, "")


def test_wrong_usage_of_any_command_is_json_where_that_is_wanted(call):
    for args in (["perdict"], ["--bogus", "show"], ["show"], ["report", "r", "--bogus"]):
        code, out, _ = call(*args, "--json")
        assert (code, json.loads(out)["state"]) == (2, "wrong usage"), args
    assert call("show", "--", "--json")[1] == ""


@pytest.mark.parametrize(
    ("logger", "path", "is_shown"),
    [
        ("apache_beam.io", "/lib/apache_beam/io/filesystems.py", False),
        ("root", "/lib/apache_beam/io/gcp/bigquery_tools.py", False),
        ("root", "/home/me/my_models.py", True),
        ("my_models", "/home/me/my_models.py", True),
    ],
)
def test_libraries_that_talk_of_themselves_are_not_shown(logger, path, is_shown):
    record = logging.LogRecord(logger, logging.WARNING, path, 1, "Something is off.", (), None)
    assert terminal._is_about_data(record) == is_shown
