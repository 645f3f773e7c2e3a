"""MODEL on the command line: a folder, a server, an endpoint, or a function that loads a model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bulk_inferencer.cli.modules import import_from_here
from bulk_inferencer.cli.options import Names, joined, option, options

if TYPE_CHECKING:
    from bulk_inferencer._models.predictor import Model

_F = TypeVar("_F", bound=Callable[..., Any])

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_VERTEX = re.compile(r"(vertex://)?(projects/[^/]+/locations/[^/]+/endpoints/[^/]+)")
_SERVER = re.compile(
    r"grpc://(?P<address>[^/]+)/(?P<name>[^/:]+)"
    r"(?:(?::|/versions/)(?P<version>\d+)|(?::|/labels/)(?P<label>[^/:]+))?"
)
_SECTION = "Model"


def model_options(command: _F) -> _F:
    """Decorates a command with the options that say how a model is called."""
    return options(
        option(
            "--signature",
            "signatures",
            metavar="NAME",
            multiple=True,
            section=_SECTION,
            help="A signature to call; may be given several times.  [default: serving_default]",
        ),
        option(
            "--model-path",
            metavar="PATH",
            default="",
            section=_SECTION,
            help="What the function in MODEL loads: a file or a folder.",
        ),
        option(
            "--takes-records/--takes-features",
            "takes_records",
            default=None,
            section=_SECTION,
            help="What the model's input of strings, or the Python model, gets: whole records "
            "or features.  [default: as names and records tell]",
        ),
        option(
            "--features",
            type=Names(),
            multiple=True,
            section=_SECTION,
            help="Features that a Python model gets.  [default: all of the first records]",
        ),
        option(
            "--allow-missing",
            is_flag=True,
            section=_SECTION,
            help="Give a Python model NaN or None for what a record lacks.  [default: the "
            "record fails]",
        ),
        option(
            "--tag",
            "tags",
            metavar="NAME",
            multiple=True,
            section=_SECTION,
            help="A tag of a SavedModel's graph.  [default: serve]",
        ),
        option(
            "--import-module",
            "import_modules",
            metavar="MODULE",
            multiple=True,
            section=_SECTION,
            help="A module to import first, because it registers ops of a SavedModel.",
        ),
        option(
            "--credentials",
            metavar="MODULE:FUNCTION",
            section=_SECTION,
            help="What makes the credentials of a grpc:// server, such as "
            "grpc:ssl_channel_credentials, or the client of a Vertex AI endpoint.",
        ),
        option(
            "--input-name",
            metavar="NAME",
            default="",
            section=_SECTION,
            help="The input of a Vertex AI endpoint that takes whole records.",
        ),
        option(
            "--preprocess",
            metavar="MODULE:FUNCTION",
            section=_SECTION,
            help="A function from records to the records that the model gets.",
        ),
        option(
            "--postprocess",
            metavar="MODULE:FUNCTION",
            section=_SECTION,
            help="A function from records and outputs to the outputs in the results.",
        ),
    )(command)


def kind_of(model: str) -> str:
    """Returns `server`, `endpoint`, `function` or `folder`, as what MODEL looks like."""
    if model.startswith("grpc://"):
        return "server"
    if _VERTEX.fullmatch(model):
        return "endpoint"
    if _FUNCTION.fullmatch(model) and not os.path.exists(model):
        return "function"
    return "folder"


def model_of(
    model: str, *, preprocess: str | None = None, postprocess: str | None = None, **given: Any
) -> Model:
    """Returns the model that MODEL and the options of `model_options` stand for.

    Raises:
      click.UsageError: an option does not belong to this kind of model.
      SettingsError: a setting is not valid.
    """
    kind = kind_of(model)
    settings = {name: own for name, own in given.items() if own not in (None, "", (), False)}
    if given["takes_records"] is False:
        settings["takes_records"] = False
    for name in settings:
        if kind not in _KINDS[name]:
            option_name = _NAMES.get(name, name).replace("_", "-")
            raise click.UsageError(
                f"--{option_name} has no meaning for {model}, which is {_WHAT[kind]}. Leave it out."
            )
    if modules_of(model, {**settings, "preprocess": preprocess, "postprocess": postprocess}):
        import_from_here()
    own = _MAKERS[kind](model, settings)
    if preprocess or postprocess:
        from bulk_inferencer._models.hooks import HookedModel

        return HookedModel(own, preprocess, postprocess)
    return own


def modules_of(model: str, given: Mapping[str, Any]) -> list[str]:
    """Returns what MODEL and its options import: functions, as `module:function`, and modules."""
    functions = [given.get(name) for name in ("preprocess", "postprocess", "credentials")]
    own = [model] if kind_of(model) == "function" else []
    return [*own, *filter(None, functions), *given.get("import_modules", ())]


_WHAT = {
    "folder": "the folder of a SavedModel",
    "server": "a model server",
    "endpoint": "a Vertex AI endpoint",
    "function": "a function that loads a model",
}
_KINDS = {
    "signatures": {"folder", "server"},
    "tags": {"folder"},
    "import_modules": {"folder"},
    "takes_records": {"folder", "server", "function"},
    "model_path": {"function"},
    "features": {"function"},
    "allow_missing": {"function"},
    "credentials": {"server", "endpoint"},
    "input_name": {"endpoint"},
}
_NAMES = {"signatures": "signature", "tags": "tag", "import_modules": "import_module"}


def _folder(model: str, settings: dict[str, Any]) -> Model:
    from bulk_inferencer._models.saved_model import SavedModel

    return SavedModel(model, **settings)


def _server(model: str, settings: dict[str, Any]) -> Model:
    from bulk_inferencer._models.tf_serving import TFServing

    if not (found := _SERVER.fullmatch(model)):
        raise click.UsageError(
            f"{model} is no model server. Write grpc://host:port/model, and behind it a version or "
            f"a label if need be, as in grpc://host:port/model:3."
        )
    version = None if found["version"] is None else int(found["version"])
    label = found["label"] or ""
    return TFServing(found["address"], found["name"], version, label, **settings)


def _endpoint(model: str, settings: dict[str, Any]) -> Model:
    from bulk_inferencer._models.vertex import VertexEndpoint

    client = settings.pop("credentials", None)
    return VertexEndpoint(model.removeprefix("vertex://"), client=client, **settings)


def _function(model: str, settings: dict[str, Any]) -> Model:
    from bulk_inferencer._models.python_model import PythonModel

    path, features = settings.pop("model_path", ""), joined(settings.pop("features", ()))
    return PythonModel(model, path, features=features, **settings)


_MAKERS: dict[str, Callable[[str, dict[str, Any]], Model]] = {
    "folder": _folder,
    "server": _server,
    "endpoint": _endpoint,
    "function": _function,
}
