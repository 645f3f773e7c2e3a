"""How the executor starts Beam: which runner, and what is made ready for its workers."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from tfx.utils import dependency_utils

from bulk_inferencer.components.executor import Executor
from tests.tfx_helpers import five_times, scored

pytest_plugins = ("tests.tfx_fixtures",)

FN_API_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


@pytest.fixture
def packaged(monkeypatch):
    """Collects the arguments for which TFX packs its sources, which takes a second and more."""
    calls = []

    def make_beam_dependency_flags(args):
        calls.append(list(args))
        return [*args, "--extra_package=tfx.tar.gz"]

    monkeypatch.setattr(dependency_utils, "make_beam_dependency_flags", make_beam_dependency_flags)
    # TFX parses all of the command line as flags where there are Beam arguments.
    monkeypatch.setattr("sys.argv", ["test"])
    return calls


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--direct_num_workers=1"],
        ["--runner=DirectRunner"],
        [f"--runner={FN_API_RUNNER}", "--direct_num_workers=1"],
        ["--runner", FN_API_RUNNER],
    ],
)
def test_nothing_is_packed_for_local_workers(packaged, args):
    executor = Executor(Executor.Context(beam_pipeline_args=args))

    assert packaged == []
    assert executor._beam_pipeline_args == args


@pytest.mark.parametrize("runner", ["DataflowRunner", "FlinkRunner", "PortableRunner"])
def test_tfx_is_packed_for_workers_elsewhere(packaged, runner):
    args = [f"--runner={runner}"]

    executor = Executor(Executor.Context(beam_pipeline_args=args))

    assert packaged == [args]
    assert "--extra_package=tfx.tar.gz" in executor._beam_pipeline_args


@pytest.mark.slow
def test_runner_of_the_pipelines_author_is_kept(outputs, inputs, monkeypatch):
    # TFX parses all of the command line as flags where there are Beam arguments.
    monkeypatch.setattr("sys.argv", ["test"])
    context = Executor.Context(beam_pipeline_args=["--runner=NoSuchRunner"])

    with pytest.raises(ValueError, match="NoSuchRunner"):
        Executor(context).Do(
            {key: [value] for key, value in inputs.items()},
            {key: [made] for key, made in outputs._asdict().items() if made},
            {},
        )

    for made in outputs[:3]:
        assert list(Path(made.uri).iterdir()) == []


@pytest.mark.slow
def test_pipeline_that_the_launcher_makes_is_used(outputs, inputs):
    made_pipelines = []

    def make_pipeline():
        options = beam.options.pipeline_options.PipelineOptions(
            ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"]
        )
        made_pipelines.append(beam.Pipeline(options=options))
        return made_pipelines[-1]

    Executor(Executor.Context(make_beam_pipeline_fn=make_pipeline)).Do(
        {key: [value] for key, value in inputs.items()},
        {key: [made] for key, made in outputs._asdict().items() if made},
        {},
    )

    assert len(made_pipelines) == 1
    assert scored(outputs.inference_result) == five_times(0, 1, 2, 10, 11)
