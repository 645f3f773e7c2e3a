"""The Dockerfile: its versions are those of the locks, and it serves pipelines and Beam alike."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bulk_inferencer.components import kubeflow_entrypoint

CHECKOUT = Path(__file__).parents[1]
TEXT = (CHECKOUT / "Dockerfile").read_text()
DEFAULTS = dict(re.findall(r"^ARG (\w+)=(.+)$", TEXT, re.MULTILINE))
HEAD = re.sub(r"\\\n#", " ", TEXT.partition("\nARG")[0])
COMMANDS = [shlex.split(line) for line in re.findall(r"^#   docker build (.+)$", HEAD, re.M)]


def arguments_of(command):
    """Returns the build arguments of a command, with the defaults of the others."""
    given = [value for name, value in itertools.pairwise(command) if name == "--build-arg"]
    return {**DEFAULTS, **dict(argument.split("=", 1) for argument in given)}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_image_has_python_and_beam_of_the_lock_and_a_base_that_cannot_change(command):
    arguments = arguments_of(command)
    assert arguments.keys() == DEFAULTS.keys()
    base = r"python:([\d.]+)-slim-\w+@sha256:[0-9a-f]{64}"
    python = re.fullmatch(base, arguments["BASE"])[1]
    minor = python.rpartition(".")[0]
    lock = (CHECKOUT / f"requirements/tfx-{arguments['TFX']}.txt").read_text()
    versions = {
        str(found.specifier)
        for found in map(Requirement, re.findall(r"^(apache-beam==.*?)(?: \\)?$", lock, re.M))
        if not found.marker
        or found.marker.evaluate({"python_full_version": python, "python_version": minor})
    }
    assert versions == {f"=={arguments['BEAM']}"}


def test_stages_come_from_the_pinned_base_or_from_beam_of_the_lock():
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", TEXT, re.MULTILINE)
    named = {name for _, name in stages if name}
    assert {source for source, _ in stages} - named == {
        "${BASE}",
        "apache/beam_python3.12_sdk:${BEAM}",
    }
    targets = {
        command[command.index("--target") + 1] for command in COMMANDS if "--target" in command
    }
    assert targets <= named


def test_beam_finds_its_program_the_packages_and_pip():
    assert re.search(r"COPY --from=beam /opt/apache/beam/boot ", TEXT)
    assert "\nENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1\n" in TEXT
    (installed,) = re.findall(
        r"uv pip install --requirements pyproject.toml (.+\\\n.+)$", TEXT, re.M
    )
    assert installed.split()[-1] == "pip"
    assert "--extra gcp" in installed


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--id=1-1", "--provision_endpoint=localhost:1"], "boot --id=1-1 --provision_endpoint"),
        (["--worker_pool"], "boot --worker_pool"),
        (["echo", "-n", "two words"], "two words"),
    ],
    ids=["worker", "worker pool", "command"],
)
def test_entrypoint_boots_a_worker_for_beam_and_runs_commands_for_others(tmp_path, given, expected):
    (script,) = re.findall(r"<<'SCRIPT' \S+\n(.+?)^SCRIPT$", TEXT, re.MULTILINE | re.DOTALL)
    (boot := tmp_path / "boot").write_text('#!/bin/sh\necho boot "$@"\n')
    (entrypoint := tmp_path / "entrypoint").write_text(
        script.replace("/opt/apache/beam/boot", str(boot))
    )
    for program in (boot, entrypoint):
        program.chmod(0o755)
    ran = subprocess.run([entrypoint, *given], check=True, capture_output=True, text=True)
    assert ran.stdout.startswith(expected)


def test_command_of_components_is_none_of_beams():
    assert not kubeflow_entrypoint.COMMAND[0].startswith("-")
    assert 'ENTRYPOINT ["entrypoint"]\nCMD ["python"]\n' in TEXT


def test_image_for_pipelines_runs_as_a_user_and_that_for_dataflow_as_root():
    last = TEXT.rpartition("\nFROM ")[2]
    assert last == "image\nUSER 1000:1000\n"
    assert TEXT.count("\nUSER ") == 1
