"""Model servers that stall, die, come back, and turn requests down: real ones, on loopback."""

from __future__ import annotations

import functools
import itertools
import logging
import random
import socket
import threading
import time
from dataclasses import replace

import grpc
import pytest
import tensorflow as tf

from bulk_inferencer import FailureLimit, InferenceJob, Outputs, run
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models import retries
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer.errors import EndpointError
from tests.faults.account import ALL_OR_NOTHING, RESUMES, SERVERS, lost_and_doubled
from tests.helpers import RECORDS, example, save_functions, tree, write_tfrecord
from tests.models.model_server import VERSION, ModelServer, failing, tf_serving, unavailable
from tests.models.vertex_server import ENDPOINT, Reply, VertexServer, make_client

FILES = 2
PATIENT = Limits(0.5, 120)
INT = tf.io.FixedLenFeature([], tf.int64)


class OverGrpc:
    NAME = "TensorFlow Serving"
    UNAVAILABLE = staticmethod(unavailable)
    ABORTED = staticmethod(failing(grpc.StatusCode.ABORTED))
    BROKEN = staticmethod(failing(grpc.StatusCode.INTERNAL, "boom"))
    BROKEN_MESSAGE = r"^grpc://\S+ .*INTERNAL: boom.* Check the server's log"

    def __init__(self, folder):
        def serve(examples):
            x = tf.io.parse_example(examples, {"x": INT})["x"]
            with tf.control_dependencies([tf.debugging.assert_non_negative(x)]):
                return {"y": 5 * x}

        self._path = save_functions(folder / "five", serving_default=(serve, {"examples": RECORDS}))

    @staticmethod
    def STALL(context):
        """Goes on until nobody waits for the answer any more."""
        over = threading.Event()
        context.add_callback(over.set)
        over.wait()

    def server(self, faults=()):
        return ModelServer(self._path, faults)

    def model(self, server, limits=PATIENT):
        return tf_serving(server, limits=limits)


class OverHttp:
    NAME = "Vertex AI"
    UNAVAILABLE = Reply(503)
    ABORTED = Reply(409)
    BROKEN = Reply(500, "boom")
    BROKEN_MESSAGE = r"^vertex://\S+ .*HTTP 500: boom.* Check the server's log"
    STALL = "stall"

    def __init__(self, folder):
        def answer(instances):
            assert all(instance["x"] >= 0 for instance in instances)
            return [{"y": 5 * instance["x"]} for instance in instances]

        self._answer = answer

    def server(self, faults=()):
        return VertexServer(self._answer, faults)

    def model(self, server, limits=PATIENT):
        client = functools.partial(make_client, server.url)
        return VertexEndpoint(ENDPOINT, client=client, limits=limits)


@pytest.fixture(params=[OverGrpc, OverHttp], ids=["gRPC", "HTTP"])
def endpoint(request, tmp_path):
    return request.param(tmp_path)


class Mortal(logging.Handler):
    """Lets a server die in the middle of a request, and come back after three failed attempts."""

    def __init__(self):
        super().__init__()
        self.server = None
        self.comes_back = True
        self._missed = 3

    def die(self, *_):
        self._missed = 0
        self.server.stop()

    def emit(self, record):
        self._missed += 1
        if self._missed == 3 and self.comes_back:
            self.server.start()


@pytest.fixture
def mortal():
    handler, logger = Mortal(), logging.getLogger(retries.__name__)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


def job_of(folder, model, count, files=FILES, **settings):
    """Writes records, and returns them and the job that scores them."""
    records = [example(x=i) for i in range(count)]
    for i in range(files):
        write_tfrecord(folder / f"in/{i}.gz", records[i::files])
    job = InferenceJob(
        splits={"s": [f"{folder}/in/*.gz"]},
        model=model,
        outputs=Outputs.under(folder / "out"),
        bounds=BatchBounds(max_records=max(10, count // 200)),
        **settings,
    )
    return records, job


def left_in(folder):
    """Returns the files that have their final names."""
    return [path for path in tree(folder / "out") if "/.work/" not in path]


def faults(endpoint, name, die):
    """Returns what happens to the requests, one after the other; None where nothing does."""
    dice = random.Random(1)
    if name == "is UNAVAILABLE half of the time":
        return iter(lambda: dice.choice([endpoint.UNAVAILABLE, None]), "never")
    period = {
        "answers ABORTED in bursts": [None, *[endpoint.ABORTED] * 2, *[None] * 3],
        "stalls": [None, endpoint.STALL, *[None] * 4],
        "dies and comes back": [*[None] * 3, die, *[None] * 3],
    }
    return itertools.cycle(period[name])


def score(folder, endpoint, name, mortal, count, reliability):
    with endpoint.server(faults(endpoint, name, mortal.die)) as mortal.server:
        records, job = job_of(folder, endpoint.model(mortal.server), count)
        total = run(job).total
        assert len(mortal.server.calls) > 10
    assert (total.examples_read, total.examples_failed) == (count, 0)
    account = lost_and_doubled(records, folder / "out/inference_result")
    reliability(SERVERS, f"{endpoint.NAME} {name}", *account)


PASSING = pytest.mark.parametrize(
    "name",
    ["is UNAVAILABLE half of the time", "answers ABORTED in bursts", "stalls",
     "dies and comes back"],
)  # fmt: skip


@PASSING
def test_faults_of_an_endpoint_that_pass_cost_nothing(
    tmp_path, endpoint, name, mortal, reliability
):
    score(tmp_path, endpoint, name, mortal, 100, reliability)


@pytest.mark.faults
@PASSING
def test_over_many_records_they_cost_nothing_either(tmp_path, endpoint, name, mortal, reliability):
    score(tmp_path, endpoint, name, mortal, 13_000, reliability)


@pytest.mark.parametrize("head", [1, 10])
def test_records_that_break_an_endpoint_fail_and_no_others(tmp_path, endpoint, head, reliability):
    with endpoint.server() as server:
        limit = FailureLimit(max_fraction=0.9)
        records, job = job_of(tmp_path, endpoint.model(server), 100, failure_limit=limit)
        for i in range(FILES):
            bad = [example(x=-1 - x) for x in range(head + 1)]
            write_tfrecord(tmp_path / f"in/{i}.gz", [*bad[1:], *records[i::FILES], bad[0]])
        total = run(job).total
    bad = FILES * (head + 1)
    assert (total.examples_read, total.examples_failed) == (100 + bad, bad)
    account = lost_and_doubled(records, tmp_path / "out/inference_result")
    reliability(SERVERS, f"{endpoint.NAME} fails with some records", *account)


@pytest.mark.parametrize("first", [0, 2])
def test_endpoint_that_is_broken_is_blamed_and_soon(tmp_path, endpoint, first, reliability):
    broken = itertools.chain([None] * first, itertools.repeat(endpoint.BROKEN))
    with endpoint.server(broken) as server:
        records, job = job_of(tmp_path, endpoint.model(server, Limits(0.5, 120)), 100)
        with pytest.raises(EndpointError, match=endpoint.BROKEN_MESSAGE) as caught:
            run(job)
        assert "Fix the records" not in str(caught.value)
        assert len(server.calls) < 100
    assert left_in(tmp_path) == []
    with endpoint.server() as server:
        run(replace(job, model=endpoint.model(server)), restart=True)
    account = lost_and_doubled(records, tmp_path / "out/inference_result")
    reliability(ALL_OR_NOTHING, f"{endpoint.NAME} is broken", *account)


def test_endpoint_that_is_down_for_good_ends_the_run_in_time(tmp_path, endpoint, mortal):
    mortal.comes_back = False
    with endpoint.server(itertools.chain([None], itertools.repeat(mortal.die))) as mortal.server:
        _, job = job_of(tmp_path, endpoint.model(mortal.server, Limits(0.2, 1)), 100)
        started = time.monotonic()
        with pytest.raises(EndpointError, match=r"^No answer from \S+ within 1 s; attempts: \d"):
            run(job)
        assert time.monotonic() - started < 20
        mortal.server.start()
    assert left_in(tmp_path) == []


def test_run_against_one_version_goes_on_when_its_server_is_back(tmp_path, reliability):
    endpoint = OverGrpc(tmp_path)
    with endpoint.server(itertools.chain([None] * 6, itertools.repeat(unavailable))) as server:
        model = replace(endpoint.model(server, Limits(0.2, 0.5)), version=VERSION)
        records, job = job_of(tmp_path, model, 80, files=8)
        with pytest.raises(EndpointError):
            run(job)
        server.repair()
        summary = run(replace(job, model=replace(model, limits=PATIENT)))
    assert summary.reused.units > 0
    account = lost_and_doubled(records, tmp_path / "out/inference_result")
    reliability(RESUMES, f"{endpoint.NAME} is down, and back for the next run", *account)


def test_address_that_nobody_answers_at_is_named_before_inputs_are_read(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    model = TFServing(nobody, "five", limits=Limits(0.2, 600))
    outputs = Outputs.under(tmp_path / "out")
    job = InferenceJob(splits={"s": ["/no/such/file"]}, model=model, outputs=outputs)
    with pytest.raises(EndpointError, match=rf"^No answer from grpc://{nobody}/five within 0\.2 s"):
        run(job)
