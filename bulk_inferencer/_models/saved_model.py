"""SavedModels of any age as predictors: Keras 3, tf_keras, tf.Module, estimators."""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bulk_inferencer import _files
from bulk_inferencer._checks import check_tuple
from bulk_inferencer._models import signature_defs
from bulk_inferencer._models.predictor import OutOfMemory, Prediction, RecordError, without_graph
from bulk_inferencer._signatures import Signature, output_prefix
from bulk_inferencer.errors import ModelError

_logger = logging.getLogger(__name__)

DEFAULT_TAG = "serve"

# Libraries that register ops, by the names of those ops.
_MODULE_OF_OP = {
    r"SimpleML\w+": "tensorflow_decision_forests",
    r"TFText>.*|\w*(Wordpiece|Sentencepiece|WhitespaceTokenize|UnicodeScriptTokenize|RegexSplit"
    r"|CaseFoldUTF8|NormalizeUTF8|ConstrainedSequence|MaxSpanningTree|RougeL|SentenceFragment"
    r"|SplitMerge|UtfUnicode|TokenizerFromLogits)\w*": "tensorflow_text",
    r"DecodeProtoSparse\w*|DecodeProtoMap\w*|EquiJoin\w*|RunLengthBefore\w*|ParquetDataset\w*": (
        "struct2tensor"
    ),
}
_READ_BUFFER_BYTES = 8 << 20


@dataclass(frozen=True)
class SavedModel:
    """A SavedModel on a filesystem that TensorFlow can open.

    ```python
    SavedModel("models/five_times", signatures=("serving_default",))
    ```

    Attributes:
      path: the folder that holds `saved_model.pb`.
      signatures: names of the signatures to call; default: `serving_default`.
      tags: tags of the meta graph; default: `serve`.
      import_modules: modules to import first, because they register custom ops.
      load_override_fn: loads the model instead of `tf.saved_model.load`. It takes the path and the
        list of tags, and returns an object with `signatures` or a TF1 session that holds the
        graph.

    Raises:
      SettingsError: signatures, tags or modules are not a tuple of names.
    """

    path: str
    signatures: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    import_modules: tuple[str, ...] = ()
    load_override_fn: Callable[[str, list[str]], Any] | None = None

    def __post_init__(self) -> None:
        for name in ("signatures", "tags", "import_modules"):
            check_tuple(f"SavedModel.{name}", getattr(self, name), str)

    @property
    def uri(self) -> str:
        return self.path

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """Returns the signatures to call; reads the model's description, without loading it.

        Raises:
          ModelError: the folder, a tag, a signature or a module does not exist, or the model
            cannot take records of this format.
        """
        return signature_defs.signatures(self._signature_defs(record_format))

    def load(self, record_format: str) -> SavedModelPredictor:
        return SavedModelPredictor(self, record_format)

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the names and contents of the model's files.

        Raises:
          ModelError: there is no model in the folder.
        """
        _saved_model_file(self.path)
        root = self.path.rstrip("/") + "/"
        digest = hashlib.sha256()
        for path in _files.files_below(self.path):
            digest.update(path.removeprefix(root).encode() + b"\0")
            content = hashlib.sha256()
            with _files.open_to_read(path) as file:
                while data := file.read(_READ_BUFFER_BYTES):
                    content.update(data)
            digest.update(content.digest())
        return digest.hexdigest()

    def _signature_defs(self, record_format: str) -> dict[str, Any]:
        for module in self.import_modules:
            _import_module(module)
        wanted_tags = set(self.tags or (DEFAULT_TAG,))
        meta_graphs = _saved_model_proto(self.path).meta_graphs
        found_tags = [sorted(graph.meta_info_def.tags) for graph in meta_graphs]
        matching = [g for g in meta_graphs if set(g.meta_info_def.tags) == wanted_tags]
        if not matching:
            raise ModelError(
                f"Tags {sorted(wanted_tags)} not found in {self.path}; it has: "
                f"{', '.join(map(str, found_tags)) or 'none'}. Correct SavedModel.tags."
            )
        return signature_defs.select(
            matching[0].signature_def,
            self.signatures,
            record_format,
            self.path,
            "SavedModel.signatures",
        )


class SavedModelPredictor:
    """A loaded SavedModel; see `Predictor`."""

    def __init__(self, model: SavedModel, record_format: str) -> None:
        definitions = model._signature_defs(record_format)
        loaded = _load(model)
        self.signatures = signature_defs.signatures(definitions)
        self._feeds = signature_defs.Feeds(definitions)
        self.input_name = self._feeds.input_name
        # Keeps the model's variables alive: signatures hold them weakly.
        self._loaded = loaded
        self._functions = _functions(model, loaded, definitions)

    def predict(self, batch: Sequence[bytes]) -> Prediction:
        import tensorflow as tf

        try:
            outputs = {}
            for signature, function, inputs in zip(
                self.signatures, self._functions, self._feeds(batch), strict=True
            ):
                prefix = output_prefix(signature, self.signatures)
                # Sorted, since the order of a TF1 model's outputs changes from process to process,
                # and a second attempt has to write the same as the first one.
                for name, value in sorted(function(**inputs).items()):
                    outputs[prefix + name] = _checked_array(name, value, len(batch))
        except tf.errors.ResourceExhaustedError as error:
            raise OutOfMemory(str(error)) from error
        except tf.errors.OpError as error:
            raise RecordError(type(error).__name__, without_graph(error.message)) from error
        return Prediction(outputs)


def _checked_array(name: str, value: Any, count: int) -> np.ndarray:
    import tensorflow as tf

    if not isinstance(value, (tf.Tensor, np.ndarray, np.generic, bytes)):
        raise signature_defs.composite_output_error(name, type(value).__name__)
    # A string scalar comes as Python's bytes, not as an array.
    array = np.asarray(value.numpy() if isinstance(value, tf.Tensor) else value)
    signature_defs.check_rows(name, array, count)
    return array


def _saved_model_proto(path: str) -> Any:
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file_path = _saved_model_file(path)
    with _files.open_to_read(file_path) as file:
        content = file.read()
    try:
        if file_path.endswith(".pb"):
            return saved_model_pb2.SavedModel.FromString(content)
        return text_format.Parse(content, saved_model_pb2.SavedModel())
    except (DecodeError, text_format.ParseError) as error:
        raise ModelError(
            f"{file_path} is no SavedModel; parsing its {len(content)} bytes failed: "
            f"{str(error).rstrip('.')}. Export the model again."
        ) from error


def _saved_model_file(path: str) -> str:
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        file_path = posixpath.join(path, name)
        if _files.exists(file_path):
            return file_path
    raise ModelError(
        f"No saved_model.pb in {path}. Check the path, and that the Trainer exported the model for "
        f"serving (to fn_args.serving_model_dir)."
    )


def _load(model: SavedModel) -> Any:
    """Loads the model; if an op is missing, tries again with the library known to define it."""
    import tensorflow as tf

    load = model.load_override_fn or tf.saved_model.load
    tags = list(model.tags or (DEFAULT_TAG,))
    _grow_gpu_memory()
    try:
        return load(model.path, tags)
    except Exception as error:
        op = re.search(r"Op type not registered '([^']+)'", str(error))
        if op is None:
            raise ModelError(f"Could not load {model.path}: {error}") from error
        name, cause = op[1], error
    module = next((m for ops, m in _MODULE_OF_OP.items() if re.fullmatch(ops, name)), None)
    message = (
        f"{model.path} needs the op '{name}', which is not registered. Install the library that "
        f"defines it, and name its module in SavedModel.import_modules"
    )
    if module is None:
        raise ModelError(f"{message}.") from cause
    _logger.warning("Op %s is missing; importing %s, which is known to define it.", name, module)
    try:
        importlib.import_module(module)
        return load(model.path, tags)
    except Exception as error:  # noqa: BLE001, whatever it is, the op is still missing
        raise ModelError(f"{message}. Importing {module} did not help: {error}") from cause


def _functions(
    model: SavedModel, loaded: Any, definitions: dict[str, Any]
) -> list[Callable[..., Any]]:
    """Returns a function for each signature, from tensors to outputs, both by name."""
    if hasattr(loaded, "signatures"):
        missing = [name for name in definitions if name not in loaded.signatures]
        if missing:
            raise ModelError(
                f"SavedModel.load_override_fn returned an object without the signatures "
                f"{', '.join(missing)} of {model.path}. Return what tf.saved_model.load returns."
            )
        return [loaded.signatures[name] for name in definitions]
    if hasattr(loaded, "run") and hasattr(loaded, "graph"):
        return [functools.partial(_run_session, loaded, d) for d in definitions.values()]
    raise ModelError(
        f"SavedModel.load_override_fn returned an object of type {type(loaded).__name__} for "
        f"{model.path}. Return one with signatures, as tf.saved_model.load does, or a TF1 session."
    )


def _run_session(session: Any, definition: Any, **inputs: Any) -> dict[str, Any]:
    fetches = {name: info.name for name, info in definition.outputs.items()}
    feeds = {definition.inputs[name].name: tensor.numpy() for name, tensor in inputs.items()}
    outputs: dict[str, Any] = session.run(fetches, feeds)
    return outputs


def _grow_gpu_memory() -> None:
    """Lets TensorFlow take a GPU's memory as it needs it, instead of all of it at once."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError as error:  # a GPU in use cannot be configured any more
            _logger.warning("Memory growth of %s stays as it is: %s", gpu.name, error)


def _import_module(module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:  # a library of ops that does not fit TensorFlow may raise anything
        raise ModelError(
            f"Could not import '{module}', which SavedModel.import_modules names: {error}. Install "
            f"it on every worker."
        ) from error
