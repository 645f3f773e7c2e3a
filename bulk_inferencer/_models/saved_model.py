"""SavedModels of any age as predictors: Keras 3, tf_keras, tf.Module, estimators."""

from __future__ import annotations

import functools
import importlib
import logging
import posixpath
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bulk_inferencer import _access, _files, _patterns
from bulk_inferencer._checks import check_tuple
from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._imports import import_large
from bulk_inferencer._models import (
    column_feeds,
    custom_ops,
    model_files,
    recognition,
    signature_defs,
)
from bulk_inferencer._models.feeds import Call, Feeds, TakesRecords, rows_of
from bulk_inferencer._models.inputs import parts_of, tensor_names
from bulk_inferencer._models.predictor import OutOfMemory, Prediction, RecordError, reason_of, shown
from bulk_inferencer._signatures import Signature, output_prefix
from bulk_inferencer.errors import ModelError, SettingsError

_logger = logging.getLogger(__name__)

DEFAULT_TAG = "serve"


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
      takes_records: whether a lone input of strings takes the serialized record, as does one with
        a name like `examples` beside others (True), or the feature of its name (False); or the
        names of the inputs that take the record. Default: a lone input with such a name takes the
        record, and any other lone one the feature of its name if the records have that feature.

    Raises:
      SettingsError: the path is none, signatures, tags or modules are not a tuple of names, or
        `takes_records` is something else.
    """

    path: str
    signatures: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    import_modules: tuple[str, ...] = ()
    load_override_fn: Callable[[str, list[str]], Any] | None = None
    takes_records: TakesRecords = None

    def __post_init__(self) -> None:
        if known := recognition.about_object(self.path):
            raise SettingsError(f"SavedModel.path must be a path. {shown(self.path)} is {known}.")
        object.__setattr__(self, "path", _files.as_path("SavedModel.path", self.path))
        for name in ("signatures", "tags", "import_modules"):
            check_tuple(f"SavedModel.{name}", getattr(self, name), str)
        if self.takes_records is not None and not isinstance(self.takes_records, bool):
            check_tuple("SavedModel.takes_records", self.takes_records, str)

    @property
    def uri(self) -> str:
        return self.path

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """Returns the signatures to call; reads the model's description, without loading it.

        Raises:
          ModelError: the folder, a tag, a signature or a module does not exist, or the model
            cannot take records of this format.
        """
        return signature_defs.signatures(self._described(record_format).definitions)

    def load(self, record_format: str) -> SavedModelPredictor:
        return SavedModelPredictor(self, record_format)

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the names and contents of the model's files.

        Raises:
          ModelError: there is no model in the folder.
        """
        _saved_model_file(self.path)
        return model_files.fingerprint(self.path)

    def stamp(self) -> str:
        """Returns what changes if a file of the model is replaced; see `model_files.stamp`."""
        return model_files.stamp(self.path)

    def fitted(self, record_format: str, first: FirstRecords) -> SavedModel:
        """Returns the model with `takes_records` as the records tell.

        Raises:
          ModelError: see `check`; or no record has a feature for an input.
        """
        feeds = self._described(record_format).feeds
        return feeds.fitted(self, first, f"The model in {self.path}")

    def meta_graph(self) -> Any:
        """Returns the MetaGraphDef, after the modules that register custom ops were imported.

        Raises:
          ModelError: the folder, the tags or a module do not exist.
        """
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
        return matching[0]

    def _described(self, record_format: str) -> _Described:
        meta_graph = self.meta_graph()
        definitions = signature_defs.select(
            meta_graph.signature_def,
            self.signatures,
            record_format,
            self.path,
            "SavedModel.signatures",
        )
        parts = {name: parts_of(meta_graph, d) for name, d in definitions.items()}
        feeds = Feeds(definitions, record_format, self.takes_records, parts)
        return _Described(meta_graph.graph_def, definitions, feeds)


class _Described(NamedTuple):
    """What a model says of itself: its graph, and the signatures to call."""

    graph: Any
    definitions: Mapping[str, Any]
    feeds: Feeds


class SavedModelPredictor:
    """A loaded SavedModel; see `Predictor`."""

    def __init__(self, model: SavedModel, record_format: str) -> None:
        described = model._described(record_format)
        loaded = _load(model, described.graph)
        self.signatures = signature_defs.signatures(described.definitions)
        self._feeds = described.feeds
        self._parsed_as_floats: frozenset[str] = frozenset()  # columns of whole numbers
        # Keeps the model's variables alive: signatures hold them weakly.
        self._loaded = loaded
        self._functions = _functions(model, loaded, described.definitions)

    @property
    def input_name(self) -> str:
        return self._feeds.input_name

    def predict(self, batch: Sequence[bytes]) -> Prediction:
        import tensorflow as tf

        try:
            if isinstance(batch, Rows):
                return self._predict_rows(batch)
            return self._predict(batch)
        except tf.errors.ResourceExhaustedError as error:
            raise OutOfMemory(reason_of(error).message) from error
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            reason = reason_of(error)
            cure = column_feeds.about_other_type(reason.message) if isinstance(batch, Rows) else ""
            raise RecordError(reason.error_type, reason.message + cure) from error

    def _predict_rows(self, rows: Rows) -> Prediction:
        """Gives whole numbers as floats to a model that parses floats, as inputs of tensors get."""
        import tensorflow as tf

        while True:
            tried = self._parsed_as_floats  # which another thread may change
            try:
                return self._predict(column_feeds.with_floats(rows, tried))
            except tf.errors.InvalidArgumentError as error:
                name = column_feeds.wants_floats(reason_of(error).message, rows.columns)
                if name is None or name in tried:
                    raise
                self._parsed_as_floats = tried | {name}

    def _predict(self, batch: Sequence[bytes]) -> Prediction:
        outputs = {}
        for signature, function, calls in zip(
            self.signatures, self._functions, self._feeds(batch), strict=True
        ):
            prefix = output_prefix(signature, self.signatures)
            results = [_call(function, call) for call in calls]
            for name, value in rows_of(results, len(batch)).items():
                outputs[prefix + name] = value
        return Prediction(outputs)


def _call(function: Callable[..., Any], call: Call) -> dict[str, np.ndarray]:
    # Sorted, since the order of a TF1 model's outputs changes from process to process, and a second
    # attempt has to write the same as the first one.
    found = sorted(function(**call.inputs).items())
    return {name: _checked_array(name, value, call.rows) for name, value in found}


def _checked_array(name: str, value: Any, count: int) -> np.ndarray:
    import tensorflow as tf

    if not isinstance(value, (tf.Tensor, np.ndarray, np.generic, bytes)):
        raise signature_defs.composite_output_error(name, type(value).__name__)
    # A string scalar comes as Python's bytes, not as an array.
    array = np.asarray(value.numpy() if isinstance(value, tf.Tensor) else value)
    signature_defs.check_rows(name, array, count)
    return array


def _saved_model_proto(path: str) -> Any:
    import_large("tensorflow")
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
    if _patterns.scheme_of(path) and not _access.is_known(path):
        _access.check_access([path], needs_credentials=False)
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        file_path = posixpath.join(path, name)
        if _files.exists(file_path):
            return file_path
    raise ModelError(recognition.about_path(path))


def _load(model: SavedModel, graph: Any) -> Any:
    """Loads the model, after the libraries of the ops that TensorFlow does not have."""
    import tensorflow as tf

    load = model.load_override_fn or tf.saved_model.load
    unknown = custom_ops.unknown_ops(graph)
    failed = custom_ops.import_libraries_of(unknown) if unknown else {}
    _grow_gpu_memory()
    try:
        return load(model.path, list(model.tags or (DEFAULT_TAG,)))
    except Exception as error:
        reason = reason_of(error).message
        if op := re.search(r"Op type not registered '([^']+)'", reason):
            missing = {op[1], *custom_ops.unknown_ops(graph)}
            raise ModelError(_about_missing_ops(model.path, missing, failed)) from error
        if _patterns.has_wildcard(model.path):
            raise ModelError(
                f"Could not load {model.path}: TensorFlow takes *, ?, [ and ] in a path for a "
                f"pattern. Give the folder another name."
            ) from error
        raise ModelError(f"Could not load {model.path}: {reason}") from error


def _about_missing_ops(path: str, ops: Collection[str], failed: Mapping[str, str]) -> str:
    noun = "op" if len(ops) == 1 else "ops"
    parts = [f"{path} needs the {noun} {', '.join(sorted(ops))}, which TensorFlow does not have."]
    libraries = {custom_ops.library_of(op) for op in ops}
    for library in sorted(filter(None, libraries)):
        if library in failed:
            continue
        if sys.modules.get(library):
            parts.append(
                f"The installed version of {library} does not have it either. Install the one that "
                f"fits the model."
            )
        else:
            parts.append(f"Install {library}, which defines it, on every worker.")
    parts += [f"Importing {library} failed: {reason}." for library, reason in failed.items()]
    if None in libraries:
        parts.append(
            "Install the library that defines it on every worker, and name its module in "
            "SavedModel.import_modules."
        )
    return " ".join(parts)


def _functions(
    model: SavedModel, loaded: Any, definitions: Mapping[str, Any]
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
    tensors = tensor_names(definition)
    feeds = {tensors[name]: tensor.numpy() for name, tensor in inputs.items()}
    outputs: dict[str, Any] = session.run(fetches, feeds)
    return outputs


def _grow_gpu_memory() -> None:
    """Lets TensorFlow take a GPU's memory as it needs it, instead of all of it at once."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError) as error:  # It is in use, or has a limit.
            _logger.warning("Memory growth of %s stays as it is: %s", gpu.name, error)


def _import_module(module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:  # a library of ops that does not fit TensorFlow may raise anything
        raise ModelError(
            f"Could not import '{module}', which SavedModel.import_modules names: "
            f"{reason_of(error).message}. Install it on every worker."
        ) from error
