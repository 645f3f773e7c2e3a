"""The inputs of a signature: what each takes, and how a ragged or sparse one is fed.

A SignatureDef speaks of plain tensors. A ragged or sparse input is several of them:

    q: RaggedTensor  ->  q = its values, q_1 = where its rows begin          TF2
    q: SparseTensor  ->  q = its indices, q_1 = its values, q_2 = its shape
    q: SparseTensor  ->  q_indices, q_values, q_dense_shape                  TF1
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from bulk_inferencer._models.signature_defs import tensor_dtype, tensor_shape

# The tensors that make up a ragged or sparse input, by its name.
Parts: TypeAlias = Mapping[str, Sequence[str]]

DENSE = "dense"
RAGGED = "ragged"
SPARSE = "sparse"

# What TFX, TensorFlow's estimators, its ranking library and its tutorials call the input for
# serialized records.
_RECORDS = re.compile(
    r"serialized\w*"
    r"|(input_)?(tf_?|sequence_?)*examples?(_(tensors?|placeholder|protos?|strings?|bytes))?"
)
_SPARSE_PARTS = ("indices", "values", "dense_shape")  # as TensorFlow names those of TF1 models


class Input(NamedTuple):
    """One input of a signature.

    Attributes:
      kind: `DENSE`, `RAGGED` or `SPARSE`; anything else cannot be fed, and says what it is.
      dtype: of its values, as TensorFlow names it.
      shape: None if the rank is unknown, and with None for each unknown size.
      tensors: the names under which the loaded signature takes it.
      default: what the model takes if the input is left out, an array; usually None.
    """

    kind: str
    dtype: str
    shape: tuple[int | None, ...] | None
    tensors: tuple[str, ...]
    default: Any = None

    @property
    def is_vector_of_strings(self) -> bool:
        has_rank = self.shape is None or len(self.shape) == 1
        return self.kind == DENSE and self.dtype == "string" and has_rank

    @property
    def batch_size(self) -> int | None:
        """The only batch size that it takes; None if it takes any."""
        return self.shape[0] if self.shape and self.kind == DENSE else None

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """The shape of one record's values; None if it is unknown."""
        if self.shape is None:
            return () if self.dtype == "string" else None
        sizes = [size for size in self.shape[1:] if size is not None]
        return tuple(sizes) if self.shape and len(sizes) == len(self.shape) - 1 else None

    def __str__(self) -> str:
        sizes = "..." if self.shape is None else ", ".join(map(str, self.shape))
        return f"{'' if self.kind == DENSE else self.kind + ' '}{self.dtype}[{sizes}]"


def looks_like_records(name: str) -> bool:
    """Returns whether an input has a name that is usual for serialized records."""
    return _RECORDS.fullmatch(name.lower()) is not None


def inputs_of(definition: Any, parts: Parts) -> dict[str, Input]:
    """Returns the inputs of a SignatureDef by name, sorted; `parts` is what `parts_of` found."""
    inputs = {}
    used: set[str] = set()
    for name, tensors in parts.items():
        # Tensors of a nested structure have one name, too.
        if own := _of_parts([definition.inputs[tensor] for tensor in tensors], tuple(tensors)):
            inputs[name] = own
            used.update(tensors)
    for name in definition.inputs:
        if name not in used:
            inputs[name] = _of_info(name, definition)
    return dict(sorted(inputs.items()))


def tensor_names(definition: Any) -> dict[str, str]:
    """Returns the tensors of a graph that take the inputs, for TF1 sessions."""
    names = {}
    for name, info in definition.inputs.items():
        encoding = info.WhichOneof("encoding")
        if encoding == "coo_sparse":
            for part in _SPARSE_PARTS:
                names[f"{name}_{part}"] = getattr(info.coo_sparse, f"{part}_tensor_name")
        elif encoding == "composite_tensor":
            for i, component in enumerate(info.composite_tensor.components):
                names[f"{name}_component_{i}"] = component.name
        else:
            names[name] = info.name
    return names


def parts_of(meta_graph: Any, definition: Any) -> dict[str, tuple[str, ...]]:
    """Returns which inputs of a TF2 model's SignatureDef are parts of a ragged or sparse one.

    The SignatureDef does not tell, but the function does that its own function calls: there, all
    parts have the name that the user gave.
    """
    functions = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    named = {info.name.partition(":")[0]: name for name, info in definition.inputs.items()}
    for output in definition.outputs.values():
        call = nodes.get(output.name.partition(":")[0])
        wrapper = functions.get(call.attr["f"].func.name) if call else None
        if not (call and wrapper):
            return {}
        for inner, arguments in _calls(wrapper, functions):
            own = [argument.name for argument in wrapper.signature.input_arg]
            outer = dict(zip(own, call.input, strict=False))
            return _grouped(inner, [named.get(outer.get(a, ""), "") for a in arguments])
    return {}


def _calls(wrapper: Any, functions: Mapping[str, Any]) -> Iterator[tuple[Any, list[str]]]:
    """Yields the functions that a function calls, with the names of what it passes on."""
    for node in wrapper.node_def:
        if inner := functions.get(node.attr["f"].func.name):
            yield inner, [name.partition(":")[0] for name in node.input]


def _grouped(function: Any, inputs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the inputs that become arguments of one name, if those are several."""
    groups: dict[bytes, list[str]] = {}
    for i, name in enumerate(inputs):
        given = function.arg_attr[i].attr["_user_specified_name"].s
        if name and given:
            groups.setdefault(given, []).append(name)
    return {names[0]: tuple(names) for names in groups.values() if len(names) > 1}


def _of_info(name: str, definition: Any) -> Input:
    info = definition.inputs[name]
    encoding = info.WhichOneof("encoding")
    if encoding == "coo_sparse":
        tensors = tuple(f"{name}_{part}" for part in _SPARSE_PARTS)
        return Input(SPARSE, tensor_dtype(info), tensor_shape(info), tensors)
    if encoding == "composite_tensor":
        return _of_composite(name, info.composite_tensor)
    default = None
    if name in definition.defaults:
        import tensorflow as tf

        default = tf.make_ndarray(definition.defaults[name])
    return Input(DENSE, tensor_dtype(info), tensor_shape(info), (name,), default)


def _of_composite(name: str, composite: Any) -> Input:
    tensors = tuple(f"{name}_component_{i}" for i in range(len(composite.components)))
    values = composite.components[0]
    kind = composite.type_spec.type_spec_class_name
    if kind == "RaggedTensorSpec" and len(tensors) == 2 and len(tensor_shape(values) or (0,)) == 1:
        return Input(RAGGED, tensor_dtype(values), (None, None), tensors)
    return Input(f"a {kind} of", tensor_dtype(values), tensor_shape(values), tensors)


def _of_parts(infos: Sequence[Any], tensors: tuple[str, ...]) -> Input | None:
    """Returns a ragged or sparse input; None if its tensors do not look like the parts of one."""
    first, *others = [(tensor_dtype(info), tensor_shape(info)) for info in infos]
    if len(others) == 2 and first == ("int64", (None, 2)) and others[1] == ("int64", (2,)):
        return Input(SPARSE, others[0][0], (None, None), tensors)
    if set(others) <= {("int64", (None,)), ("int32", (None,))}:
        is_simple = first[1] == (None,) and others == [("int64", (None,))]
        times = f" {len(others)} times" if len(others) > 1 else ""
        kind = RAGGED if is_simple else f"ragged{times}, with values of"
        return Input(kind, first[0], (None, None) if is_simple else first[1], tensors)
    return None
