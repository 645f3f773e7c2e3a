"""What predictors and results both know of a model: its signatures, and how outputs are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PREDICT = "predict"
CLASSIFY = "classify"
REGRESS = "regress"

# Names of outputs that TensorFlow Serving gives a meaning (tf.saved_model.CLASSIFY_OUTPUT_CLASSES
# and its kin).
CLASSES_OUTPUT = "classes"
SCORES_OUTPUT = "scores"
REGRESS_OUTPUT = "outputs"


class Signature(NamedTuple):
    """One signature of a model, as far as results depend on it.

    Attributes:
      name: its name in the model.
      method: `PREDICT`, `CLASSIFY` or `REGRESS`.
      outputs: the names of its outputs.
    """

    name: str
    method: str
    outputs: tuple[str, ...] = ()


def output_prefix(signature: Signature, signatures: Sequence[Signature]) -> str:
    """Returns what precedes an output's name: nothing, or `<signature>/` if there are several."""
    return f"{signature.name}/" if len(signatures) > 1 else ""


def output_names(signatures: Sequence[Signature]) -> tuple[str, ...]:
    """Returns the names of a model's outputs; none where they are not all known in advance.

    Some models tell their outputs with their first answer only.
    """
    if any(not signature.outputs for signature in signatures):
        return ()
    return tuple(output_prefix(s, signatures) + output for s in signatures for output in s.outputs)


def multi_inference(signatures: Sequence[Signature]) -> bool:
    """Returns whether the results are one log of several classifications and regressions."""
    return len(signatures) > 1 and all(s.method != PREDICT for s in signatures)
