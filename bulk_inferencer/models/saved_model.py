"""SavedModels of any age as predictors: Keras 3, tf_keras, tf.Module, estimators."""

from __future__ import annotations

import hashlib
import importlib
import logging
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bulk_inferencer import files
from bulk_inferencer.errors import ModelError
from bulk_inferencer.models.predictor import FORMAT_TF_EXAMPLE, OutOfMemory, RecordError
from bulk_inferencer.signatures import (
    CLASSES_OUTPUT,
    CLASSIFY,
    PREDICT,
    REGRESS,
    REGRESS_OUTPUT,
    SCORES_OUTPUT,
    Signature,
    output_prefix,
)

_logger = logging.getLogger(__name__)

DEFAULT_SIGNATURE = "serving_default"
DEFAULT_TAG = "serve"

_METHODS = {
    "tensorflow/serving/classify": CLASSIFY,
    "tensorflow/serving/regress": REGRESS,
}
_EXPECTED_OUTPUTS = {
    CLASSIFY: (CLASSES_OUTPUT, SCORES_OUTPUT),
    REGRESS: (REGRESS_OUTPUT,),
}
# Features of a tf.Example are float32, int64 or bytes; other inputs are cast from the nearest.
_PARSED_DTYPES = {
    "float32": "float32",
    "float64": "float32",
    "float16": "float32",
    "bfloat16": "float32",
    "int64": "int64",
    "int32": "int64",
    "int16": "int64",
    "int8": "int64",
    "uint8": "int64",
    "uint16": "int64",
    "uint32": "int64",
    "uint64": "int64",
    "bool": "int64",
    "string": "string",
}
# Libraries that are known to register ops, by the ops that they register.
_MODULE_OF_OP = {
    r"SimpleML\w+": "tensorflow_decision_forests",
    r"TFText>.*|\w*(Wordpiece|Sentencepiece|WhitespaceTokenize|UnicodeScriptTokenize|RegexSplit"
    r"|CaseFoldUTF8|NormalizeUTF8|ConstrainedSequence|MaxSpanningTree|RougeL|SentenceFragment"
    r"|SplitMerge|UtfUnicode|TokenizerFromLogits)\w*": "tensorflow_text",
    r"DecodeProtoSparse\w*|DecodeProtoMap\w*|EquiJoin\w*|RunLengthBefore\w*|ParquetDataset\w*": (
        "struct2tensor"
    ),
}
_ABOUT_GRAPH = re.compile(r"Graph execution error|Detected at node|<stack traces|\s*\[\[\{\{")
_READ_BUFFER_BYTES = 8 << 20


@dataclass(frozen=True)
class SavedModel:
    """A SavedModel on a filesystem that TensorFlow can open.

    Attributes:
      path: the folder with `saved_model.pb`.
      signatures: names of the signatures to call; default: `serving_default`.
      tags: tags of the meta graph; default: `serve`.
      import_modules: modules to import first, because they register custom ops.
    """

    path: str
    signatures: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    import_modules: tuple[str, ...] = ()

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """Reads the model's description, without loading it, and returns the signatures to call.

        Args:
          record_format: one of `RECORD_FORMATS`.

        Raises:
          ModelError: folder, tag, signature or module does not exist, or the model cannot take
            records of this format.
        """
        for module in self.import_modules:
            _import_module(module)
        return _signatures(self._signature_defs(record_format))

    def load(self, record_format: str) -> SavedModelPredictor:
        """Loads the model.

        Args:
          record_format: one of `RECORD_FORMATS`.

        Raises:
          ModelError: as for `check`, or the model does not load.
        """
        return SavedModelPredictor(self, record_format)

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the model's files, by their names within the folder.

        Raises:
          ModelError: there is no model in the folder.
        """
        _saved_model_file(self.path)
        root = self.path.rstrip("/") + "/"
        digest = hashlib.sha256()
        for path in files.files_below(self.path):
            digest.update(path.removeprefix(root).encode() + b"\0")
            content = hashlib.sha256()
            with files.open_to_read(path) as file:
                while data := file.read(_READ_BUFFER_BYTES):
                    content.update(data)
            digest.update(content.digest())
        return digest.hexdigest()

    def _signature_defs(self, record_format: str) -> dict[str, Any]:
        """Returns the SignatureDefs to call, checked, in the order in which they were named."""
        wanted_tags = set(self.tags or (DEFAULT_TAG,))
        meta_graphs = _saved_model_proto(self.path).meta_graphs
        found_tags = [sorted(graph.meta_info_def.tags) for graph in meta_graphs]
        matching = [g for g in meta_graphs if set(g.meta_info_def.tags) == wanted_tags]
        if not matching:
            raise ModelError(
                f"Tags {sorted(wanted_tags)} not found in {self.path}; it has: "
                f"{', '.join(map(str, found_tags))}. Set ModelSpec.tag."
            )
        available = matching[0].signature_def
        names = self.signatures or (DEFAULT_SIGNATURE,)
        for name in names:
            if name not in available:
                has = ", ".join(sorted(n for n in available if not n.startswith("__"))) or "none"
                raise ModelError(
                    f"Signature '{name}' not found in {self.path}; it has: {has}. "
                    f"Set ModelSpec.model_signature_name."
                )
            _check_inputs(name, available[name], record_format)
            _check_outputs(name, available[name])
        return {name: available[name] for name in names}


class SavedModelPredictor:
    """A loaded SavedModel. See `Predictor`."""

    def __init__(self, model: SavedModel, record_format: str) -> None:
        """Loads the model; see `SavedModel.load`."""
        for module in model.import_modules:
            _import_module(module)
        definitions = model._signature_defs(record_format)
        loaded = _load(model)
        self.signatures = _signatures(definitions)
        self._feeds = [_Feed(name, definitions[name]) for name in definitions]
        self._features = _features_of(self._feeds)
        # Keeps the model's variables alive: signatures hold them weakly.
        self._loaded = loaded
        self._functions = [loaded.signatures[name] for name in definitions]

    @property
    def input_name(self) -> str:
        """The name of the first signature's input, or `examples` where features are parsed."""
        return self._feeds[0].record_input or "examples"

    def predict(self, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        """See `Predictor.predict`."""
        import tensorflow as tf

        try:
            records = tf.constant(batch, tf.string)
            parsed = tf.io.parse_example(records, self._features) if self._features else {}
            outputs = {}
            for signature, feed, function in zip(
                self.signatures, self._feeds, self._functions, strict=True
            ):
                prefix = output_prefix(signature, self.signatures)
                # Sorted, since the order of a TF1 model's outputs differs from process to process,
                # and a second attempt has to write what the first one wrote.
                for name, value in sorted(function(**feed(records, parsed)).items()):
                    outputs[prefix + name] = _checked_array(name, value, len(batch))
        except tf.errors.ResourceExhaustedError as error:
            raise OutOfMemory(str(error)) from error
        except tf.errors.OpError as error:
            raise RecordError(f"{type(error).__name__}: {_cause(error.message)}") from error
        return outputs


class _Feed:
    """How one signature gets its inputs: the records themselves, or features parsed from them."""

    def __init__(self, signature: str, definition: Any) -> None:
        self.signature = signature
        self.record_input = _record_input(definition)
        self.inputs = {} if self.record_input else dict(definition.inputs)

    def __call__(self, records: Any, parsed: Mapping[str, Any]) -> dict[str, Any]:
        import tensorflow as tf

        if self.record_input:
            return {self.record_input: records}
        return {
            name: tf.cast(parsed[name], info.dtype)
            if parsed[name].dtype.as_datatype_enum != info.dtype
            else parsed[name]
            for name, info in self.inputs.items()
        }


def _features_of(feeds: Sequence[_Feed]) -> dict[str, Any]:
    """Returns the parsing spec of all features that the signatures take."""
    import tensorflow as tf

    features: dict[str, Any] = {}
    for feed in feeds:
        for name, info in feed.inputs.items():
            shape = [dim.size for dim in info.tensor_shape.dim][1:]
            dtype = _PARSED_DTYPES[tf.as_dtype(info.dtype).name]
            feature = tf.io.FixedLenFeature(shape, dtype)
            if features.setdefault(name, feature) != feature:
                raise ModelError(
                    f"Signatures disagree on input '{name}': expected {features[name]}, got "
                    f"{feature} in '{feed.signature}'. Score them in separate runs."
                )
    return features


def _checked_array(name: str, value: Any, count: int) -> np.ndarray:
    import tensorflow as tf

    if not isinstance(value, tf.Tensor):
        raise ModelError(_composite_message(name, type(value).__name__))
    array: np.ndarray = value.numpy()
    if value.shape.rank == 0 or array.shape[0] != count:
        raise ModelError(
            f"Expected output '{name}' to have the batch size {count} as its first dimension, "
            f"got shape {tuple(value.shape)}. Return one row per record from the signature."
        )
    return array


def _cause(message: str) -> str:
    """Returns the lines of TensorFlow's message that speak of the data and not of the graph."""
    lines = [line for line in message.splitlines() if line and not _ABOUT_GRAPH.match(line)]
    cause = " ".join(lines or message.splitlines())
    return cause.removeprefix("Name: <unknown>, ").partition(" [Op:")[0]


def _composite_message(name: str, kind: str) -> str:
    return (
        f"Expected output '{name}' to be a dense tensor, got {kind}. Return .to_tensor() of a "
        f"ragged or tf.sparse.to_dense() of a sparse tensor from the serving signature."
    )


def _signatures(definitions: Mapping[str, Any]) -> tuple[Signature, ...]:
    return tuple(
        Signature(name, _method(definition), tuple(sorted(definition.outputs)))
        for name, definition in definitions.items()
    )


def _method(definition: Any) -> str:
    return _METHODS.get(definition.method_name, PREDICT)


def _record_input(definition: Any) -> str | None:
    """Returns the input that takes serialized records: the only one, a vector of strings."""
    import tensorflow as tf

    if len(definition.inputs) != 1:
        return None
    ((name, info),) = definition.inputs.items()
    is_vector = info.tensor_shape.unknown_rank or len(info.tensor_shape.dim) == 1
    return name if info.dtype == tf.string.as_datatype_enum and is_vector else None


def _check_inputs(signature: str, definition: Any, record_format: str) -> None:
    import tensorflow as tf

    if _method(definition) != PREDICT and record_format != FORMAT_TF_EXAMPLE:
        raise ModelError(
            f"Expected {FORMAT_TF_EXAMPLE} records for the {_method(definition)} signature "
            f"'{signature}', got {record_format}. Its log holds a tf.Example; name a predict "
            f"signature in ModelSpec.model_signature_name."
        )
    if _record_input(definition):
        return
    inputs = ", ".join(
        f"{name} {tf.as_dtype(info.dtype).name}{_shape(info)}"
        for name, info in sorted(definition.inputs.items())
    )
    if record_format != FORMAT_TF_EXAMPLE:
        raise ModelError(
            f"Signature '{signature}' takes ({inputs}), which can be parsed from "
            f"{FORMAT_TF_EXAMPLE} records only, got {record_format}. Export a signature with one "
            f"string input of shape [None] that parses the records."
        )
    for name, info in sorted(definition.inputs.items()):
        sizes = [dim.size for dim in info.tensor_shape.dim]
        is_fixed = sizes and not info.tensor_shape.unknown_rank and -1 not in sizes[1:]
        if not is_fixed or tf.as_dtype(info.dtype).name not in _PARSED_DTYPES:
            raise ModelError(
                f"Input '{name}' of signature '{signature}' must have a dtype that tf.Example "
                f"can hold and a known shape after the batch dimension, got "
                f"{tf.as_dtype(info.dtype).name}{_shape(info)}. Export a signature with one "
                f"string input of shape [None] that parses the records."
            )


def _check_outputs(signature: str, definition: Any) -> None:
    method = _method(definition)
    expected = _EXPECTED_OUTPUTS.get(method, ())
    if expected and not any(name in definition.outputs for name in expected):
        raise ModelError(
            f"Expected the {method} signature '{signature}' to have an output named "
            f"{' or '.join(map(repr, expected))}, got {', '.join(sorted(definition.outputs))}. "
            f"Rename the output, or export it as a predict signature."
        )
    for name, info in sorted(definition.outputs.items()):
        encoding = info.WhichOneof("encoding")
        if encoding not in (None, "name"):
            raise ModelError(_composite_message(name, encoding))
        if not info.tensor_shape.unknown_rank and not info.tensor_shape.dim:
            raise ModelError(
                f"Expected output '{name}' of signature '{signature}' to have the batch size as "
                f"its first dimension, got a scalar. Return one row per record."
            )


def _shape(info: Any) -> str:
    if info.tensor_shape.unknown_rank:
        return "[...]"
    sizes = ("None" if dim.size == -1 else str(dim.size) for dim in info.tensor_shape.dim)
    return f"[{', '.join(sizes)}]"


def _saved_model_proto(path: str) -> Any:
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    file_path = _saved_model_file(path)
    with files.open_to_read(file_path) as file:
        content = file.read()
    if file_path.endswith(".pb"):
        return saved_model_pb2.SavedModel.FromString(content)
    return text_format.Parse(content, saved_model_pb2.SavedModel())


def _saved_model_file(path: str) -> str:
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        file_path = posixpath.join(path, name)
        if files.exists(file_path):
            return file_path
    raise ModelError(
        f"Expected a SavedModel, found no saved_model.pb in {path}. Check the path, and that the "
        f"Trainer exported the model for serving (fn_args.serving_model_dir)."
    )


def _load(model: SavedModel) -> Any:
    """Loads the model, once more with the library that is known to hold a missing op."""
    import tensorflow as tf

    tags = list(model.tags or (DEFAULT_TAG,))
    try:
        return tf.saved_model.load(model.path, tags=tags)
    except Exception as error:
        op = re.search(r"Op type not registered '([^']+)'", str(error))
        if op is None:
            raise ModelError(f"Could not load {model.path}: {error}") from error
        name, cause = op[1], error
    module = next((m for ops, m in _MODULE_OF_OP.items() if re.fullmatch(ops, name)), None)
    message = (
        f"Expected op '{name}' to be registered, but it is not, and {model.path} needs it. "
        f"Install the library that defines it and name its module in ModelSpec.import_modules"
    )
    if module is None:
        raise ModelError(f"{message}.") from cause
    _logger.warning("Op %s is missing; importing %s, which is known to define it.", name, module)
    try:
        importlib.import_module(module)
        return tf.saved_model.load(model.path, tags=tags)
    except Exception as error:  # noqa: BLE001, whatever it is, the op stays missing
        raise ModelError(f"{message}; {module} was tried: {error}") from cause


def _import_module(module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:  # a library of ops that does not fit TensorFlow raises any kind
        raise ModelError(
            f"Expected a module that can be imported, got '{module}' in "
            f"ModelSpec.import_modules: {error}. Install it on every worker."
        ) from error
