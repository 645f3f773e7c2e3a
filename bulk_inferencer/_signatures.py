"""What predictors and results both know of a model: its signatures and the names of its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

PREDICT = "predict"
CLASSIFY = "classify"
REGRESS = "regress"

# The names of tf.saved_model.CLASSIFY_OUTPUT_CLASSES, CLASSIFY_OUTPUT_SCORES and REGRESS_OUTPUTS,
# to which TensorFlow Serving gives a meaning.
CLASSES_OUTPUT = "classes"
SCORES_OUTPUT = "scores"
REGRESS_OUTPUT = "outputs"


class OutputType(NamedTuple):
    """What the rows of an output are like.

    Attributes:
      dtype: as NumPy names it; `string` for bytes.
      row_shape: the shape of one record's row; None for an unknown size, and None for an unknown
        number of dimensions.
    """

    dtype: str
    row_shape: tuple[int | None, ...] | None


class Signature(NamedTuple):
    """One signature of a model, as far as results depend on it.

    Attributes:
      name: its name in the model.
      method: `PREDICT`, `CLASSIFY` or `REGRESS`.
      outputs: the names of its outputs; empty if only the model's answers will tell.
      stages: of a cascade, the names of its stages in order.
      types: what the outputs are like, in their order; empty if that is not known in advance.
    """

    name: str
    method: str
    outputs: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    types: tuple[OutputType, ...] = ()


def output_prefix(signature: Signature, signatures: Sequence[Signature]) -> str:
    """Returns `<signature>/`, which precedes the name of an output, or "" for a lone signature."""
    return f"{signature.name}/" if len(signatures) > 1 else ""


def output_names(signatures: Sequence[Signature]) -> tuple[str, ...]:
    """Returns the names of a model's outputs, or nothing if some are not known in advance."""
    if any(not signature.outputs for signature in signatures):
        return ()
    return tuple(output_prefix(s, signatures) + output for s in signatures for output in s.outputs)


def output_types(signatures: Sequence[Signature]) -> dict[str, OutputType]:
    """Returns what a model's outputs are like, by name; nothing if that is not known in advance."""
    if any(not s.outputs or len(s.types) != len(s.outputs) for s in signatures):
        return {}
    types = [own for signature in signatures for own in signature.types]
    return dict(zip(output_names(signatures), types, strict=True))


def common_type(types: Iterable[OutputType]) -> OutputType | None:
    """Returns what rows of any of these types are like; None if there is no such type."""
    types = list(types)
    if len({own.dtype for own in types}) != 1:
        return None
    shapes = [own.row_shape for own in types]
    first = shapes[0]
    if first is None or any(own is None or len(own) != len(first) for own in shapes):
        return OutputType(types[0].dtype, None)
    sizes = (set(own) for own in zip(*filter(None, shapes), strict=True))
    shape = tuple(own.pop() if len(own) == 1 else None for own in sizes)
    return OutputType(types[0].dtype, shape)


def multi_inference(signatures: Sequence[Signature]) -> bool:
    """Returns whether one log holds the results of several classifications and regressions."""
    return len(signatures) > 1 and all(s.method != PREDICT for s in signatures)
