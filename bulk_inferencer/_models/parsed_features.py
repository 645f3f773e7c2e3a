"""Which features a signature parses of tf.Examples, as its graph says.

The SignatureDef tells only that it takes a string. The ops that parse hold the names, as constants:

    serialized, names, sparse_keys, dense_keys, ragged_keys  ->  ParseExampleV2
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PARSING = ("ParseExampleV2", "ParseExample", "ParseSingleExample")
_VARIABLE = "None"  # the size of sparse and ragged features


def parsed_features(meta_graph: Any, definition: Any) -> dict[str, str]:
    """Returns dtype and shape, such as `float32[1]`, by feature.

    Args:
      meta_graph: the MetaGraphDef.
      definition: the SignatureDef.
    """
    found: dict[str, str] = {}
    for nodes, parser in _parsers(meta_graph.graph_def, definition):
        found |= _features(nodes, parser)
    return dict(sorted(found.items()))


def _parsers(graph: Any, definition: Any) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """Yields the ops that parse for a signature, each with the nodes beside it by name."""
    functions = {own.signature.name: own for own in graph.library.function}
    nodes = {node.name: node for node in graph.node}
    reached = _upwards(nodes, [info.name for info in definition.outputs.values()])
    seen: set[str] = set()
    while reached:
        called: list[str] = []
        for beside, node in reached:
            if node.op in _PARSING:
                yield beside, node
            called += [name for name in _functions_of(node) if name in functions]
        reached = []
        for name in dict.fromkeys(called):
            if name not in seen:
                seen.add(name)
                own = {node.name: node for node in functions[name].node_def}
                reached += [(own, node) for node in own.values()]


def _upwards(nodes: Mapping[str, Any], names: Sequence[str]) -> list[tuple[Mapping[str, Any], Any]]:
    """Returns the nodes that some tensors depend on."""
    waiting, reached = [_node_of(name) for name in names], {}
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in reached:
            reached[name] = nodes[name]
            waiting += map(_node_of, nodes[name].input)
    return [(nodes, node) for node in reached.values()]


def _node_of(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _functions_of(node: Any) -> Iterator[str]:
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)


def _features(nodes: Mapping[str, Any], parser: Any) -> dict[str, str]:
    attr = parser.attr
    dense_types = attr["Tdense"].list.type
    shapes = [
        "unknown" if own.unknown_rank else ", ".join(str(dim.size) for dim in own.dim)
        for own in attr["dense_shapes"].list.shape
    ]
    sparse_types = attr["sparse_types"].list.type
    ragged: list[str] = []
    if parser.op == "ParseSingleExample":
        dense = _texts(attr["dense_keys"].list.s)
        sparse = _texts(attr["sparse_keys"].list.s)
    elif parser.op == "ParseExample":
        first, count = 2, len(sparse_types)
        sparse = _constants(nodes, parser.input[first : first + count])
        dense = _constants(nodes, parser.input[first + count : first + count + len(dense_types)])
    else:
        sparse, dense, ragged = (_constants(nodes, [own]) for own in parser.input[2:5])
    found = {n: f"{_dtype(t)}[{s}]" for n, t, s in zip(dense, dense_types, shapes, strict=False)}
    variable = [*zip(sparse, sparse_types, strict=False)]
    variable += zip(ragged, attr["ragged_value_types"].list.type, strict=False)
    return found | {name: f"{_dtype(kind)}[{_VARIABLE}]" for name, kind in variable}


def _constants(nodes: Mapping[str, Any], tensors: Sequence[str]) -> list[str]:
    """Returns the texts in constants; none if they are something else."""
    import tensorflow as tf

    found: list[str] = []
    for tensor in tensors:
        node = nodes.get(_node_of(tensor))
        if node is None or node.op != "Const":
            return []
        found += _texts(tf.make_ndarray(node.attr["value"].tensor).reshape(-1))
    return found


def _texts(values: Any) -> list[str]:
    return [value.decode(errors="backslashreplace") for value in values]


def _dtype(number: int) -> str:
    import tensorflow as tf

    return str(tf.as_dtype(number).name)
