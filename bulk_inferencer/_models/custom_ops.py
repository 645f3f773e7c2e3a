"""Libraries that register the ops which a model needs and TensorFlow does not have."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Collection
from typing import Any

from bulk_inferencer._models.predictor import reason_of

_logger = logging.getLogger(__name__)

# By module; the pattern says which ops are surely the library's, so that it is tried first.
LIBRARIES_OF_OPS = {
    "tensorflow_text": (
        r"TFText>.*|\w*(Wordpiece|Sentencepiece|WhitespaceTokenize|UnicodeScriptTokenize|RegexSplit"
        r"|CaseFoldUTF8|NormalizeUTF8|ConstrainedSequence|MaxSpanningTree|RougeL|SentenceFragment"
        r"|SplitMerge|TokenizerFromLogits|FastBertNormalize|PhraseTokenize|FindSourceOffsets)\w*"
    ),
    "tensorflow_decision_forests": r"SimpleML\w+|Yggdrasil\w+",
    "struct2tensor": (
        r"(DecodeProtoSparse|DecodeProtoMap|EquiJoin|RunLengthBefore|ParquetDataset)\w*"
    ),
    "scann": r"Scann>.*",
    "tensorflow_recommenders_addons": r"TFRA>.*",
    "tensorflow_addons": r"Addons>.*",
}


def unknown_ops(graph: Any) -> set[str]:
    """Returns the ops of a GraphDef and its functions that nobody has registered."""
    from tensorflow.python.framework import op_def_registry

    functions = {function.signature.name for function in graph.library.function}
    used = {node.op for node in graph.node}
    for function in graph.library.function:
        used.update(node.op for node in function.node_def)
    return {op for op in used - functions if op_def_registry.get(op) is None}


def import_libraries_of(ops: Collection[str]) -> dict[str, str]:
    """Imports the libraries that may register the ops, until all are known.

    Returns:
      By module, why a library that is installed could not be imported.
    """
    from tensorflow.python.framework import op_def_registry

    failed = {}
    missing = set(ops)
    for module in sorted(LIBRARIES_OF_OPS, key=lambda module: module not in map(library_of, ops)):
        if not missing:
            break
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                failed[module] = reason_of(error).message
            continue
        except Exception as error:  # noqa: BLE001, one that does not fit TensorFlow raises anything
            failed[module] = reason_of(error).message
            continue
        found = {op for op in missing if op_def_registry.get(op) is not None}
        if found:
            _logger.info("Imported %s, which defines %s.", module, ", ".join(sorted(found)))
        missing -= found
    return failed


def library_of(op: str) -> str | None:
    """Returns the module of the library that is known to define an op."""
    return next((m for m, names in LIBRARIES_OF_OPS.items() if re.fullmatch(names, op)), None)
