"""Faults of a server that speaks TensorFlow Serving's API: nothing may be lost or doubled."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools

import apache_beam as beam
import grpc
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from bulk_inferencer._models.batching import Failed, Scored, Scorer
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer.beam import BatchBounds, RunInference
from bulk_inferencer.job import FailureLimit, InferenceJob, run
from bulk_inferencer.results.reader import read_predictions
from tests.helpers import example, features_of, write_tfrecord
from tests.model_server import (
    ModelServer,
    OnFailures,
    Proxy,
    assert_as_local,
    failing,
    predictor,
    tf_serving,
    unavailable,
)

pytestmark = pytest.mark.slow

X = [example(x=float(x)) for x in range(40)]


@pytest.fixture
def serve():
    """Starts servers, which stop when the test is over."""
    with contextlib.ExitStack() as servers:
        yield lambda path, **settings: servers.enter_context(ModelServer(path, **settings))


def scored(scorer, records, size):
    """Scores in batches of `size`; returns y in the order of the records, None for failures."""
    results = []
    for start in range(0, len(records), size):
        for result in scorer.score(records[start : start + size]):
            if isinstance(result, Scored):
                assert start + result.start == len(results)
                results += result.outputs["y"][:, 0].tolist()
            else:
                assert start + result.index == len(results)
                results.append(None)
    return results


# Faults


def test_nothing_is_lost_or_doubled_when_every_second_request_is_turned_down(serve, linear_model):
    server = serve(linear_model, faults=itertools.cycle([unavailable, None]))
    assert scored(Scorer(predictor(server)), X, 10) == [5.0 * x for x in range(40)]
    assert (len(server.calls), server.scored) == (8, 40)


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE"])
def test_request_is_made_again_after_a_passing_error(serve, linear_model, code):
    server = serve(
        linear_model,
        faults=[failing(grpc.StatusCode[code])],
        metadata_faults=[failing(grpc.StatusCode[code])],
    )
    assert_as_local(linear_model, predictor(server).predict(X), X)
    assert (len(server.calls), server.scored) == (2, 40)


def test_server_that_stalls_is_asked_again_after_the_deadline(serve, linear_model):
    deadlines = []

    def stall(context):
        deadlines.append(context.time_remaining())
        server.stall(context)

    server = serve(linear_model, faults=[None, stall])
    loaded = predictor(server, limits=Limits(request_seconds=1, total_seconds=60))
    loaded.predict(X[:1])  # the first one takes longer
    assert_as_local(linear_model, loaded.predict(X), X)
    assert 0 < deadlines[0] < 2
    assert [call.count for call in server.calls] == [1, 40, 40]
    assert server.scored == 41


def test_connection_that_is_cut_in_mid_call_is_made_anew(serve, linear_model):
    with contextlib.ExitStack() as cleanup:
        faults = iter([None, lambda context: proxy.cut()])
        server = serve(linear_model, faults=faults)
        proxy = cleanup.enter_context(Proxy(server.port))
        assert scored(Scorer(predictor(proxy)), X, 10) == [5.0 * x for x in range(40)]
        assert proxy.cuts == 1
    # The answer to the second batch was lost; its records are scored twice and returned once.
    assert [call.count for call in server.calls] == [10] * 5


def test_server_that_dies_is_found_when_it_is_back(serve, linear_model):
    server = serve(linear_model, faults=[None, lambda context: server.die(context)])
    loaded = predictor(server)
    port = server.port
    with OnFailures(3, server.start):  # in mid-call, and while there is no server
        assert scored(Scorer(loaded), X, 10) == [5.0 * x for x in range(40)]
    assert server.port == port
    assert [call.count for call in server.calls] == [10] * 5


def test_several_threads_share_a_predictor(serve, linear_model):
    server = serve(linear_model, faults=itertools.cycle([None, unavailable, None]))
    loaded = predictor(server)
    batches = [X[i : i + 5] for i in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        outputs = list(threads.map(loaded.predict, batches))
    for i, found in enumerate(outputs):
        assert found["y"][:, 0].tolist() == [5.0 * x for x in range(40)][i : i + 5]
    assert server.scored == sum(map(len, batches))


# Records that are at fault


def test_record_that_the_model_cannot_parse_fails_alone(serve, linear_model):
    server = serve(linear_model)
    records = [*X[:13], b"bad", *X[13:]]
    results = list(Scorer(predictor(server)).score(records))
    (failed,) = (result for result in results if isinstance(result, Failed))
    reason = "INVALID_ARGUMENT: Feature: x (data type: float) is required but could not be found."
    assert (failed.index, failed.reason) == (13, reason)
    assert scored(Scorer(predictor(server)), records, 50) == [
        *(5.0 * x for x in range(13)), None, *(5.0 * x for x in range(13, 40))
    ]  # fmt: skip


def test_batch_that_is_too_large_for_the_server_is_halved(serve, linear_model):
    server = serve(linear_model, max_receive_bytes=400)
    scorer = Scorer(predictor(server))
    assert scored(scorer, X, 40) == [5.0 * x for x in range(40)]
    assert scorer.safe_records == 10
    assert server.scored == 40


def test_batch_that_the_server_has_no_memory_for_is_halved(serve, linear_model):
    oom = failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "OOM when allocating tensor with shape[40]")
    scorer = Scorer(predictor(serve(linear_model, faults=[oom])))
    assert scored(scorer, X, 40) == [5.0 * x for x in range(40)]
    assert scorer.safe_records == 20


def test_record_that_is_too_large_on_its_own_fails_alone(serve, linear_model):
    server = serve(linear_model, max_receive_bytes=400)
    records = [*X[:3], example(x=3.0, padding="." * 500), *X[4:6]]
    assert scored(Scorer(predictor(server)), records, 6) == [0.0, 5.0, 10.0, None, 20.0, 25.0]


# Whole runs


def test_pipeline_loses_and_doubles_nothing_when_half_of_the_requests_are_turned_down(
    serve, linear_model
):
    server = serve(linear_model, faults=itertools.cycle([unavailable, None]))
    elements = [(f"key {i % 50}", example(x=float(i))) for i in range(100)]
    transform = RunInference(tf_serving(server), bounds=BatchBounds(max_records=8))
    with beam.Pipeline(FnApiRunner()) as pipeline:
        logs = pipeline | beam.Create(elements) | transform
        found = logs | beam.MapTuple(
            lambda key, log: (key, log.predict_log.response.outputs["y"].float_val[0])
        )
        assert_that(found, equal_to([(f"key {i % 50}", 5.0 * i) for i in range(100)]))
    assert server.scored == 100
    assert len(server.calls) >= 25


def test_job_reconciles_what_a_server_scored(serve, linear_model, tmp_path):
    server = serve(linear_model, faults=itertools.cycle([unavailable, None]))
    records = [example(x=float(x)) for x in range(100)]
    for i in range(2):
        write_tfrecord(tmp_path / f"in/{i}.gz", [*records[50 * i : 50 * i + 50], b"bad"])
    model = tf_serving(server)
    job = InferenceJob(
        splits={"s": [f"{tmp_path}/in/*"]},
        model=model,
        outputs=Outputs.under(f"{tmp_path}/out"),
        bounds=BatchBounds(max_records=8),
        failure_limit=FailureLimit(max_count=2, max_fraction=1),
    )
    summary = run(job)
    assert summary.model_path == model.uri
    counts = summary.splits["s"]
    assert (counts.examples_read, counts.predictions_written) == (102, 100)
    assert counts.examples_failed == 2
    found = read_predictions(f"{tmp_path}/out/inference_result")
    by_x = sorted((features_of(p.record)["x"][0], p.outputs["y"].item()) for p in found)
    assert by_x == [(float(x), 5.0 * x) for x in range(100)]
    assert server.scored == 100
