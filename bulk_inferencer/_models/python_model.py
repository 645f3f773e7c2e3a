"""Any model that Python can call: scikit-learn, XGBoost, ONNX Runtime, Keras files, PyTorch."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from bulk_inferencer import _files
from bulk_inferencer._checks import check_flag, check_kind, check_tuple
from bulk_inferencer._formats.column_values import check_features
from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models import importing, model_files, python_inputs, recognition
from bulk_inferencer._models.predictor import OutOfMemory, Prediction, RecordError, reason_of, shown
from bulk_inferencer._models.returned import arrays, is_frame
from bulk_inferencer._models.signature_defs import DEFAULT_SIGNATURE
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import BulkInferencerError, ModelError, SettingsError

_logger = logging.getLogger(__name__)

# Takes arrays by feature, or a list of records, and returns arrays by output.
Loaded: TypeAlias = Callable[[Any], Mapping[str, Any]]

# Only an answer tells the outputs.
_SIGNATURES = (Signature(DEFAULT_SIGNATURE, PREDICT),)
_RECORDS_FOR_SCHEMA = 256
_ONLY_OUTPUT = "output"
# What libraries call their errors when memory is full.
_OUT_OF_MEMORY = {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"}
_COPY = "Arrays of features may not be changed: copy one first, with numpy.array(x)"


@dataclass(frozen=True)
class PythonModel:
    """A model of any library, as a function that loads it.

    ```python
    # my_project/penguins.py
    def load(path):
        model = joblib.load(f"{path}/model.joblib")

        def predict(features):
            x = np.column_stack([features["culmen_length"], features["culmen_depth"]])
            return {"species": model.predict(x), "probability": model.predict_proba(x)}

        return predict
    ```

    ```python
    PythonModel("my_project.penguins:load", "models/penguins")
    ```

    What `load_model` returns gets the features of a batch of n records as a dict of arrays: of
    shape [n] where each record has one value, [n, k] where each has k, and otherwise n arrays. Text
    is `str`, other strings `bytes`; those of tf.Examples are text if the first records hold valid
    UTF-8. Copy an array before you change it: it may be read-only, since it shares the memory of
    the table. The function returns a dict of arrays of shape [n, ...] by output, or a DataFrame
    whose columns are outputs; an array alone becomes an output named `output`. Records that it
    raises an exception for are failures.

    Attributes:
      load_model: takes `path` and returns the function that scores. Either a function, or the name
        to import it by, as `package.module:function`. It is called once per process.
      path: the file or folder of the model, whose content is its fingerprint; optional.
      takes_records: whether the function gets the list of n serialized records, or of the bytes of
        whole files, instead of features.
      features: names of the features that the function gets; default: all that the first records
        have.
      allow_missing: whether a number that a record lacks is NaN, and text that it lacks None; all
        numbers are floats then. Default: the record is a failure.
      concurrent: whether several threads may call the function at once.
      schema: what the features are like; default: what they are like in the first records. Lists of
        one length are `pyarrow.list_(type, length)`.

    Raises:
      SettingsError: a setting has another type, or contradicts another.
    """

    load_model: Callable[[str], Loaded] | str
    path: str = ""
    takes_records: bool = False
    features: tuple[str, ...] = ()
    allow_missing: bool = False
    concurrent: bool = False
    schema: pa.Schema | None = None

    def __post_init__(self) -> None:
        if known := recognition.about_object(self.load_model):
            raise SettingsError(
                f"PythonModel.load_model must be a function. {shown(self.load_model)} is {known}."
            )
        if not isinstance(self.load_model, str) and not callable(self.load_model):
            importing.function("PythonModel.load_model", self.load_model)
        object.__setattr__(self, "path", _files.as_path("PythonModel.path", self.path))
        for name in ("takes_records", "allow_missing", "concurrent"):
            check_flag(f"PythonModel.{name}", getattr(self, name))
        check_tuple("PythonModel.features", self.features, str)
        object.__setattr__(self, "features", tuple(self.features))
        if self.schema is not None:
            example = 'pyarrow.schema({"x": pyarrow.float32()})'
            check_kind("PythonModel.schema", self.schema, pa.Schema, example)
        if self.takes_records and (self.features or self.allow_missing or self.schema is not None):
            raise SettingsError(
                "PythonModel.takes_records hands over the records as they are, so features, "
                "allow_missing and schema have no meaning. Leave them out."
            )

    @property
    def uri(self) -> str:
        return self.path or f"python:{self._name}"

    @property
    def _name(self) -> str:
        own = self.load_model
        return own if isinstance(own, str) else importing.name_of(self._user_function())

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """Returns one signature, without outputs.

        Raises:
          SettingsError: the function cannot be imported.
          ModelError: there is nothing at the path, or the records have no features.
        """
        _logger.info("Model: %s.", importing.origin(self._user_function()))
        self._check(record_format)
        return _SIGNATURES

    def _check(self, record_format: str) -> None:
        if self.path and not model_files.exist(self.path):
            raise ModelError(
                f"There is no file of a model at {self.path}. Correct PythonModel.path, or leave "
                f"it out if {self._name} needs none."
            )
        if not self.takes_records and record_format != FORMAT_TF_EXAMPLE:
            raise ModelError(
                f"{self._name} loads a model that takes features, but whole files and records of "
                f"{record_format} have none. Set PythonModel.takes_records to get their bytes. Or "
                f"write a preprocess function that returns one serialized tf.Example for each of "
                f"them, with a feature for each input."
            )

    def load(self, record_format: str) -> PythonPredictor:
        self._check(record_format)
        return PythonPredictor(self, self._loaded())

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the files and of the module with `load_model`.

        It is empty if the module has no source, as in a notebook, or if the function holds values
        from elsewhere.
        """
        source = importing.digest(self._user_function())
        if not source:
            return ""
        digest = hashlib.sha256(source.encode())
        if self.path:
            digest.update(model_files.fingerprint(self.path).encode())
        return digest.hexdigest()

    def stamp(self) -> str:
        """Returns what changes if a file of the model is replaced; see `model_files.stamp`."""
        return model_files.stamp(self.path) if self.path else ""

    def fitted(self, record_format: str, first: FirstRecords) -> PythonModel:
        """Returns the model with the schema of the first records.

        Raises:
          ModelError: they lack one of `features`.
          InputError: a column cannot become a feature, and the model asks for it.
        """
        if self.takes_records and first.columns:
            check_features(first.columns)
        if self.takes_records or self.schema is not None:
            return self
        records = first.batch(_RECORDS_FOR_SCHEMA)
        if not len(records):
            return self
        return replace(self, schema=python_inputs.schema_of(records, self.features))

    def _function(self) -> Callable[[str], Loaded]:
        return importing.function("PythonModel.load_model", self.load_model)

    def _user_function(self) -> Callable[..., Any]:
        function = self._function()
        return function.score if isinstance(function, Given) else function

    def _loaded(self) -> Loaded:
        function = self._function()
        try:
            loaded: Any = function(self.path)
        except BulkInferencerError:
            raise
        except Exception as error:
            raise ModelError(
                f"Could not load {self.uri}: {self._name} raised {reason_of(error)}."
            ) from error
        if not callable(loaded):
            raise ModelError(
                f"{self._name} returned {shown(loaded)}, which cannot be called. Return a function "
                f"that takes {{feature: array}} and returns {{output: array}}, such as "
                f'lambda features: {{"y": model.predict(features["x"])}}.'
            )
        return loaded


@dataclass(frozen=True)
class Given:
    """Loads a function that is there already."""

    score: Loaded

    def __call__(self, path: str) -> Loaded:
        return self.score


class PythonPredictor:
    """Calls what `load_model` returned; see `Predictor`."""

    signatures = _SIGNATURES
    input_name = "examples"

    def __init__(self, model: PythonModel, loaded: Loaded) -> None:
        self._model = model
        self._loaded = loaded
        self._schema = model.schema
        self._deciding = threading.Lock()
        self._turn = contextlib.nullcontext() if model.concurrent else threading.Lock()

    def predict(self, batch: Sequence[bytes]) -> Prediction:
        inputs: Any = list(batch) if self._model.takes_records else self._arrays(batch)
        try:
            with self._turn:
                outputs: Any = self._loaded(inputs)
        except Exception as error:
            if any(kind.__name__ in _OUT_OF_MEMORY for kind in type(error).__mro__):
                raise OutOfMemory(reason_of(error).message) from error
            if isinstance(error, ValueError) and "read-only" in str(error):
                reason = reason_of(error)
                raise RecordError(reason.error_type, f"{reason.message}. {_COPY}") from error
            raise
        if isinstance(outputs, list) or (
            hasattr(outputs, "__array__")
            and not (isinstance(outputs, Mapping) or is_frame(outputs))
        ):
            outputs = {_ONLY_OUTPUT: outputs}
        is_loader = not isinstance(self._model.load_model, Given)
        name = self._model._name
        returned = f"What {name} loaded returned" if is_loader else f"{name} returned"
        return Prediction(arrays(outputs, len(batch), returned, ModelError))

    def _arrays(self, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        with self._deciding:
            if self._schema is None:  # The first batch decides, where nobody has read any before.
                self._schema = python_inputs.schema_of(batch, self._model.features)
        return python_inputs.arrays_of(batch, self._schema, self._model.allow_missing)
