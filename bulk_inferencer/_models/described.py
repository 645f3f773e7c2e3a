"""What a model says of itself, without being loaded: signatures, inputs, outputs, and who fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._models import importing, signature_defs
from bulk_inferencer._models.feeds import EITHER, RECORD, Feeds
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.inputs import Parts, inputs_of, parts_of
from bulk_inferencer._models.parsed_features import parsed_features
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.python_model import PythonModel
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer._signatures import PREDICT, OutputType
from bulk_inferencer.errors import ModelError

# What a signature may take; the keys of `SignatureDescription.takes`.
TABLES = "tables"
EXAMPLES = "tf.Examples"
BYTES = "whole files and other bytes"

_ONLY_ANSWERS_TELL = "Only its answers tell the outputs."


@dataclass(frozen=True)
class InputDescription:
    """One input of a signature.

    Attributes:
      name: its name.
      type: its dtype and shape, such as `float32[None, 3]`.
      takes: `record`, `feature` (or column, of its name), `record or feature` (whichever there is),
        or `constant` (nothing: the model brings the value). Empty if it cannot be fed.
    """

    name: str
    type: str
    takes: str = ""


@dataclass(frozen=True)
class SignatureDescription:
    """One signature of a model.

    Attributes:
      name: its name.
      method: `predict`, `classify` or `regress`.
      inputs: what it takes; empty if the model does not tell.
      outputs: dtype and shape by output; empty if the model does not tell.
      takes: for each kind of input, an empty text, or why it cannot be scored.
      parses: dtype and shape of the features that it parses of tf.Examples, by name; empty if it
        parses none, or that cannot be told.
    """

    name: str
    method: str
    inputs: tuple[InputDescription, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    takes: Mapping[str, str] = field(default_factory=dict)
    parses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelDescription:
    """What can be known of a model before a record is read.

    Attributes:
      kind: what it is, such as `SavedModel`.
      uri: where it is.
      signatures: those that can be called.
      notes: what else there is to know, in sentences.
    """

    kind: str
    uri: str
    signatures: tuple[SignatureDescription, ...] = ()
    notes: tuple[str, ...] = ()


def describe(model: Model) -> ModelDescription:
    """Returns what a model says of itself.

    Raises:
      BulkInferencerError: there is no such model, or its server does not answer.
    """
    if isinstance(model, HookedModel):
        return _of_hooks(model)
    if isinstance(model, SavedModel):
        graph = model.meta_graph()
        own = dict(graph.signature_def)
        parts = {name: parts_of(graph, definition) for name, definition in own.items()}
        description = _of_definitions("SavedModel", model, own, parts)
        described = [_with_parsed(s, graph, own[s.name]) for s in description.signatures]
        return replace(description, signatures=tuple(described))
    if isinstance(model, TFServing):
        return _of_definitions("TensorFlow Serving", model, model.definitions(), {})
    if isinstance(model, PythonModel):
        return _of_function(model)
    if isinstance(model, VertexEndpoint):
        return _of_endpoint(model)
    return ModelDescription(type(model).__name__, model.uri)


def type_text(own: OutputType) -> str:
    """Returns dtype and shape of an output, as those of inputs are written."""
    if own.row_shape is None:
        return f"{own.dtype}[None, ...]"
    return f"{own.dtype}[{', '.join(map(str, (None, *own.row_shape)))}]"


def _of_definitions(
    kind: str,
    model: SavedModel | TFServing,
    definitions: Mapping[str, Any],
    parts: Mapping[str, Parts],
) -> ModelDescription:
    # A SavedModel keeps its signatures in no order.
    called = sorted(name for name in definitions if not name.startswith("__"))
    called.sort(key=lambda name: name != signature_defs.DEFAULT_SIGNATURE)
    names = model.signatures or tuple(called)
    return ModelDescription(
        kind,
        model.uri,
        tuple(_of_signature(name, model, definitions, parts.get(name, {})) for name in names),
    )


def _of_signature(
    name: str, model: SavedModel | TFServing, definitions: Mapping[str, Any], parts: Parts
) -> SignatureDescription:
    def feeds(record_format: str) -> Feeds:
        where, setting = model.uri, f"{type(model).__name__}.signatures"
        own = signature_defs.select(definitions, (name,), record_format, where, setting)
        return Feeds(own, record_format, model.takes_records, {name: parts})

    if name not in definitions:
        feeds(FORMAT_TF_EXAMPLE)  # which says so
    roles: Mapping[str, str] = {}
    takes: dict[str, str] = {}
    for record_format, kinds in ((FORMAT_PROTO, (BYTES,)), (FORMAT_TF_EXAMPLE, (TABLES, EXAMPLES))):
        reason = ""
        try:
            roles = feeds(record_format).roles[name]
        except ModelError as error:
            reason = str(error)
        takes = {**dict.fromkeys(kinds, reason), **takes}
    definition = definitions[name]
    (signature,) = signature_defs.signatures({name: definition})
    inputs = inputs_of(definition, parts)
    return SignatureDescription(
        name,
        signature.method,
        tuple(InputDescription(n, str(own), roles.get(n, "")) for n, own in inputs.items()),
        {
            output: type_text(own)
            for output, own in zip(signature.outputs, signature.types, strict=True)
        },
        takes,
    )


def _with_parsed(
    signature: SignatureDescription, graph: Any, definition: Any
) -> SignatureDescription:
    """Adds the features that a signature parses, which other bytes do not have."""
    takes_records = any(own.takes in (RECORD, EITHER) for own in signature.inputs)
    parses = parsed_features(graph, definition) if takes_records else {}
    if not parses:
        return signature
    takes = {**signature.takes, BYTES: "The signature parses the record as a tf.Example."}
    return replace(signature, takes=takes, parses=parses)


def _of_function(model: PythonModel) -> ModelDescription:
    function = importing.function("PythonModel.load_model", model.load_model)
    takes = {TABLES: "", EXAMPLES: "", BYTES: ""}
    note = "It gets the features or columns "
    if model.takes_records:
        note = "It gets the bytes of each record."
    else:
        takes[BYTES] = "It takes features, which these do not have. Set PythonModel.takes_records."
        note += ", ".join(model.features) + "." if model.features else "that the inputs have."
    return ModelDescription(
        "Python model",
        model.uri,
        (SignatureDescription(signature_defs.DEFAULT_SIGNATURE, PREDICT, takes=takes),),
        (f"Loaded by {importing.origin(function)}.", note, _ONLY_ANSWERS_TELL),
    )


def _of_endpoint(model: VertexEndpoint) -> ModelDescription:
    takes = {TABLES: "", EXAMPLES: "", BYTES: ""}
    inputs: tuple[InputDescription, ...] = ()
    if model.input_name:
        inputs = (InputDescription(model.input_name, "base64", RECORD),)
    else:
        takes[BYTES] = "Features are sent, which these do not have. Set VertexEndpoint.input_name."
    return ModelDescription(
        "Vertex AI endpoint",
        model.uri,
        (SignatureDescription(model.signature, PREDICT, inputs, takes=takes),),
        (_ONLY_ANSWERS_TELL,),
    )


def _of_hooks(model: HookedModel) -> ModelDescription:
    inner = describe(model.model)
    notes = list(inner.notes)
    signatures = inner.signatures
    if model.preprocess is not None:
        hook = importing.function("preprocess", model.preprocess)
        notes.append(f"Before it runs {importing.origin(hook)}.")
    if model.postprocess is not None:
        hook = importing.function("postprocess", model.postprocess)
        notes.append(f"After it runs {importing.origin(hook)}, which decides about the outputs.")
        signatures = tuple(replace(own, outputs={}) for own in signatures)
    return replace(inner, signatures=signatures, notes=tuple(notes))
