"""Engines as a pipeline carries them: from a dataclass to our message's JSON, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf import json_format, struct_pb2

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.components.settings import given_fields
from bulk_inferencer.engines.beam import Beam
from bulk_inferencer.engines.engine import Engine
from bulk_inferencer.engines.ray import Ray
from bulk_inferencer.engines.spark import Spark
from bulk_inferencer.errors import SettingsError

# By the field of our message.
KINDS: Mapping[str, Callable[..., Engine]] = {"beam": Beam, "ray": Ray, "spark": Spark}
_DEFAULT = "beam"
# What an engine gets from the pipeline, in the executor.
OF_PIPELINE = ("options", "make_pipeline")


def as_json(engine: Engine) -> dict[str, Any]:
    """Returns the JSON of our message for an engine.

    Raises:
      SettingsError: it is of a class of the author's, or has what comes from the pipeline.
    """
    name = next((name for name, kind in KINDS.items() if type(engine) is kind), "")
    if not name:
        raise SettingsError(
            f"engine is of the class {type(engine).__name__}, which a pipeline cannot carry to "
            f"where it runs. Give engines.Beam(), engines.Ray() or engines.Spark(). "
            f"bulk_inferencer.run and predict take any engine."
        )
    default = KINDS[name]()
    given = {
        field.name: value
        for field in dataclasses.fields(engine)  # type: ignore[arg-type]
        if (value := getattr(engine, field.name)) != getattr(default, field.name)
    }
    for own in OF_PIPELINE:
        if own in given:
            raise SettingsError(
                f"engine has {own}, but in a pipeline, these come from beam_pipeline_args, on "
                f"every engine. Move Beam's options there, or to the component's "
                f"with_beam_pipeline_args, and leave out {own}."
            )
    if isinstance(size := given.get("min_ram"), int):
        given["min_ram"] = f"{size}B"
    return {name: given}


def engine(
    spec: our.Engine,
    options: Sequence[str] = (),
    make_pipeline: Callable[[], Any] | None = None,
) -> Engine:
    """Returns the engine that a message stands for.

    Args:
      spec: the message; Beam if it is empty.
      options: the pipeline's `beam_pipeline_args`. To Ray and Spark they only open files.
      make_pipeline: makes the pipeline that Beam runs.

    Raises:
      SettingsError: a setting is not valid.
    """
    name = spec.WhichOneof("kind") or _DEFAULT
    given = {own: _plain(value) for own, value in given_fields(getattr(spec, name)).items()}
    if name == "beam":
        given["make_pipeline"] = make_pipeline
    return KINDS[name](options=tuple(map(str, options)), **given)


def _plain(value: Any) -> Any:
    """Returns the value of a field as a dataclass takes it."""
    if isinstance(value, struct_pb2.Struct):
        return _with_whole_numbers(json_format.MessageToDict(value))
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _with_whole_numbers(value: Any) -> Any:
    """Returns JSON with the whole numbers that a message has made floats."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(own) for name, own in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(own) for own in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
