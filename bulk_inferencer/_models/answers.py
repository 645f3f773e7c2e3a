"""What the answers of model servers mean that are no predictions: one table for gRPC and HTTP."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from bulk_inferencer._models.predictor import OutOfMemory, without_graph
from bulk_inferencer._models.retries import TransientError
from bulk_inferencer.errors import EndpointError


class Fault(enum.Enum):
    """Who is at fault, and what is done about it."""

    RECORD = "a record: it is looked for, and becomes a failure"
    SIZE = "the size of the request: the batch is halved"
    MOMENT = "the moment: the request is made again"
    SERVER = "the server or the settings: the run ends"
    UNCERTAIN = "a record or the server: other records tell (see `Judge`)"


@dataclass(frozen=True)
class Rule:
    """Who is at fault if the answer has one of these codes, and why."""

    fault: Fault
    why: str
    grpc: tuple[str, ...] = ()
    http: tuple[int, ...] = ()


# Google's advice (AIP-194) is to repeat UNAVAILABLE alone, since a request may have had effects
# before it failed. Predictions have none, so all that may be different next time is repeated.
RULES = (
    Rule(
        Fault.RECORD,
        "The request is wrong whatever state the server is in. TensorFlow's ops say so of values "
        "and shapes.",
        ("INVALID_ARGUMENT", "OUT_OF_RANGE"),
        (400, 422),
    ),
    Rule(Fault.SIZE, "HTTP's own code for it. For other codes, see `_TEXTS`.", http=(413,)),
    Rule(
        Fault.MOMENT,
        "The server is down, starts or stops, or its queue is full. Proxies say so of servers.",
        ("UNAVAILABLE",),
        (502, 503, 520, 521, 523, 527, 529, 530),
    ),
    Rule(
        Fault.MOMENT,
        "The answer took too long. Another time or another replica may be faster.",
        ("DEADLINE_EXCEEDED",),
        (408, 504, 522, 524, 598, 599),
    ),
    Rule(
        Fault.MOMENT,
        "A quota is used up, or memory is short. If the message is about size: see `_TEXTS`.",
        ("RESOURCE_EXHAUSTED",),
        (429,),
    ),
    Rule(
        Fault.MOMENT,
        "It got in the way of something else. By its definition, the caller should start over.",
        ("ABORTED",),
        (409, 423),
    ),
    Rule(
        Fault.MOMENT,
        "The server or a proxy gave the request up. We never cancel one.",
        ("CANCELLED",),
        (499,),
    ),
    Rule(Fault.MOMENT, "It came too early, or on the wrong connection.", http=(421, 425)),
    Rule(
        Fault.SERVER,
        "It is about who asks, not about what.",
        ("UNAUTHENTICATED", "PERMISSION_DENIED"),
        (401, 402, 403, 407, 451, 511),
    ),
    Rule(
        Fault.SERVER,
        "Requests of this form are not taken there, whatever records they hold.",
        http=(405, 406, 411, 414, 415, 417, 426, 428, 431, 505, 506, 510),
    ),
    Rule(
        Fault.UNCERTAIN,
        "The server has a bug, or is broken. Servers in Python say so whenever code raises, which "
        "may be because of one record.",
        ("INTERNAL", "UNKNOWN", "DATA_LOSS"),
        (500, 507, 508),
    ),
    Rule(
        Fault.UNCERTAIN,
        "The model, its signature or its state is missing. TensorFlow's ops say so as well, of a "
        "file or a table that a record names, or of an image that they cannot decode.",
        ("NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS", "UNIMPLEMENTED"),
        (404, 410, 412, 424, 501),
    ),
)

_BY_CODE = {str(code): rule.fault for rule in RULES for code in (*rule.grpc, *rule.http)}

# What the code of an answer does not say, but its message does.
_TEXTS = (
    (Fault.SIZE, r"message larger than max"),  # gRPC
    (Fault.SIZE, r"OOM when allocating"),  # TensorFlow
    (Fault.SIZE, r"[Tt]ask size \d+ is larger than max"),  # the batching of TensorFlow Serving
    (Fault.SIZE, r"(payload|request) size exceeds"),  # Vertex AI
    (Fault.MOMENT, r"RST_STREAM|Stream removed"),  # a connection that broke off
    (Fault.SERVER, r"no deployed model"),  # Vertex AI
)

_SECRET = re.compile(
    r"(?i)(\bbearer\s+|\b(?:authorization|access_token|api[-_]?key)[\"']?\s*[:=]\s*[\"']?"
    r"(?:(?:basic|bearer)\s+)?)[^\s\"'<>,;&]+"
)


class Refused(Exception):
    """Raised for an answer that may be due to a record of the batch.

    Attributes:
      fault: whether it certainly is.
      code: the answer's code, such as `INTERNAL` or `HTTP 500`.
      message: what the server says about it, on one line.
    """

    def __init__(self, fault: Fault, code: str, message: str) -> None:
        super().__init__(fault, code, message)
        self.fault = fault
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def fault_of(code: str, message: str = "") -> Fault:
    """Returns who is at fault.

    Args:
      code: the name of a gRPC status, or an HTTP status.
      message: what the server says about it.
    """
    fault = _BY_CODE.get(code, Fault.UNCERTAIN)
    if fault is not Fault.SERVER:
        for told, text in _TEXTS:
            if re.search(text, message):
                return told
    return fault


def without_secrets(message: str) -> str:
    """Returns what a server or a library says, without credentials.

    Some servers and proxies show the request that they turn down.
    """
    return _SECRET.sub(r"\1***", message)


def error(
    where: str,
    code: str,
    message: str,
    advice: str,
    status: str = "",
    retry_after_seconds: float | None = None,
) -> Exception:
    """Returns the error to raise for an answer.

    Args:
      where: the server, for messages.
      code: the name of a gRPC status, or an HTTP status.
      message: what the server says about it.
      advice: what to check where settings may be wrong.
      status: the name of the gRPC status that came with an HTTP status, which says more.
      retry_after_seconds: how long the server asks to wait.
    """
    fault = fault_of(status if status in _BY_CODE else code, message)
    message = without_secrets(message)
    code = f"HTTP {code}" if code.isdecimal() else code
    if fault is Fault.SIZE:
        return OutOfMemory(message)
    if fault is Fault.MOMENT:
        return TransientError(f"{code}: {message}", retry_after_seconds)
    if fault is Fault.SERVER:
        return EndpointError(f"{where} refused a request: {code}: {message}. {advice}")
    return Refused(fault, code, without_graph(message))
