"""Every code that a server may answer with, and who is at fault."""

from __future__ import annotations

from collections import Counter

import grpc
import pytest

from bulk_inferencer._models import answers
from bulk_inferencer._models.answers import Fault, Refused, fault_of, without_secrets
from bulk_inferencer._models.predictor import OutOfMemory
from bulk_inferencer._models.retries import TransientError
from bulk_inferencer.errors import EndpointError
from tests.helpers import exactly

CODES = {
    Fault.RECORD: "INVALID_ARGUMENT OUT_OF_RANGE 400 422",
    Fault.SIZE: "413",
    Fault.MOMENT: "UNAVAILABLE DEADLINE_EXCEEDED RESOURCE_EXHAUSTED ABORTED CANCELLED "
    "408 409 421 423 425 429 499 502 503 504 520 521 522 523 524 527 529 530 598 599",
    Fault.SERVER: "UNAUTHENTICATED PERMISSION_DENIED "
    "401 402 403 405 406 407 411 414 415 417 426 428 431 451 505 506 510 511",
}
KNOWN = {code: fault for fault, codes in CODES.items() for code in codes.split()}
GRPC = [status.name for status in grpc.StatusCode if status is not grpc.StatusCode.OK]


@pytest.mark.parametrize("code", [*GRPC, *map(str, range(400, 600))])
def test_code_tells_who_is_at_fault_and_any_other_code_leaves_it_open(code):
    assert fault_of(code, "as planned") is KNOWN.get(code, Fault.UNCERTAIN)


def test_every_grpc_status_has_one_rule_and_every_rule_a_reason():
    found = Counter(code for rule in answers.RULES for code in (*rule.grpc, *rule.http))
    assert set(GRPC) <= set(found)
    assert set(found.values()) == {1}
    assert all(rule.why.endswith(".") for rule in answers.RULES)


@pytest.mark.parametrize(
    ("code", "message", "fault"),
    [("RESOURCE_EXHAUSTED", "Received message larger than max (8 vs. 4)", Fault.SIZE),
     ("RESOURCE_EXHAUSTED", "OOM when allocating tensor with shape[40]", Fault.SIZE),
     ("INVALID_ARGUMENT", "Task size 64 is larger than maximum input batch size 32", Fault.SIZE),
     ("429", "OOM when allocating tensor with shape[40]", Fault.SIZE),
     ("400", "Request payload size exceeds the limit: 1572864 bytes.", Fault.SIZE),
     ("INTERNAL", "Received RST_STREAM with error code 2", Fault.MOMENT),
     ("UNKNOWN", "Stream removed", Fault.MOMENT),
     ("400", "Endpoint 5 has no deployed models", Fault.SERVER),
     ("PERMISSION_DENIED", "OOM when allocating", Fault.SERVER)],
)  # fmt: skip
def test_message_may_tell_more_than_the_code(code, message, fault):
    assert fault_of(code, message) is fault


def error(code, message="why", **more):
    return answers.error("the server", code, message, "Check it.", **more)


def test_each_fault_has_its_error():
    later = error("503", retry_after_seconds=7)
    assert isinstance(later, TransientError)
    assert (str(later), later.retry_after_seconds) == ("HTTP 503: why", 7)
    assert isinstance(error("413"), OutOfMemory)
    with pytest.raises(EndpointError, match=exactly("the server refused a request: HTTP 401: why. "
                                                    "Check it.")):  # fmt: skip
        raise error("401")
    refused = error("INTERNAL", "Graph execution error:\n\nit is bad [Op:Inference]")
    assert isinstance(refused, Refused)
    assert (refused.fault, str(refused)) == (Fault.UNCERTAIN, "INTERNAL: it is bad")


def test_grpc_status_that_comes_with_http_tells_more():
    assert error("400", status="FAILED_PRECONDITION").fault is Fault.UNCERTAIN
    assert error("409", status="ALREADY_EXISTS").fault is Fault.UNCERTAIN
    assert error("400", status="WHATEVER").fault is Fault.RECORD


@pytest.mark.parametrize(
    ("message", "shown"),
    [("Bearer let.me-in is not valid", "Bearer *** is not valid"),
     ('{"Authorization": "Bearer let-me-in", "x": 1}', '{"Authorization": "Bearer ***", "x": 1}'),
     ("Authorization: Basic bGV0LW1lLWlu", "Authorization: Basic ***"),
     ("POST /v1?api_key=let-me-in&x=1", "POST /v1?api_key=***&x=1"),
     ("access_token=let-me-in", "access_token=***"),
     ("no authorization given", "no authorization given")],
)  # fmt: skip
def test_credentials_in_an_answer_are_not_shown(message, shown):
    assert without_secrets(message) == shown
    assert str(error("UNAVAILABLE", message)) == f"UNAVAILABLE: {shown}"
