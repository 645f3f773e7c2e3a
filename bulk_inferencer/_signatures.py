"""What predictors and results both know of a model: its signatures and the names of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PREDICT = "predict"
CLASSIFY = "classify"
REGRESS = "regress"

# The names of tf.saved_model.CLASSIFY_OUTPUT_CLASSES, CLASSIFY_OUTPUT_SCORES and REGRESS_OUTPUTS,
# to which TensorFlow Serving gives a meaning.
CLASSES_OUTPUT = "classes"
SCORES_OUTPUT = "scores"
REGRESS_OUTPUT = "outputs"


class Signature(NamedTuple):
    """One signature of a model, as far as results depend on it.

    Attributes:
      name: its name in the model.
      method: `PREDICT`, `CLASSIFY` or `REGRESS`.
      outputs: the names of its outputs; empty if only the model's answers will tell.
      stages: of a cascade, the names of its stages in order.
    """

    name: str
    method: str
    outputs: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()


def output_prefix(signature: Signature, signatures: Sequence[Signature]) -> str:
    """Returns `<signature>/`, which precedes the name of an output, or "" for a lone signature."""
    return f"{signature.name}/" if len(signatures) > 1 else ""


def output_names(signatures: Sequence[Signature]) -> tuple[str, ...]:
    """Returns the names of a model's outputs, or nothing if some are not known in advance."""
    if any(not signature.outputs for signature in signatures):
        return ()
    return tuple(output_prefix(s, signatures) + output for s in signatures for output in s.outputs)


def multi_inference(signatures: Sequence[Signature]) -> bool:
    """Returns whether one log holds the results of several classifications and regressions."""
    return len(signatures) > 1 and all(s.method != PREDICT for s in signatures)
