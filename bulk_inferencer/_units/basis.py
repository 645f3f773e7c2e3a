"""What the results of a run depend on: two runs with an equal basis give equal results."""

from __future__ import annotations

import enum
import hashlib
import importlib.util
import inspect
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, is_dataclass
from types import CodeType
from typing import Any

import pyarrow as pa

from bulk_inferencer import _files
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._models import importing
from bulk_inferencer._units.plan import identity

# Fields of our own settings that make no difference to what is in the results: where files lie, how
# they are cut, how messages begin, how a server is reached, and how many threads call at once. A
# file with a longer record is damaged, and units of damaged files are never reused.
_WITHOUT_EFFECT = (
    *("folder", "path", "label", "labels", "files_folder", "manifests_folder", "run_file"),
    *("max_record_bytes", "limits", "credentials", "channel_options"),
    *("known_parts", "part_bytes", "block_bytes", "concurrent"),
)
# Those that may hold the name of a function, as `package.module:function`.
_FUNCTIONS = ("preprocess", "postprocess", "client", "load_model")


@dataclass(frozen=True)
class Basis:
    """Digests of all that results depend on.

    Attributes:
      parts: digests by what they are of, such as `model 'five'` or `batch bounds`.
      inputs: the digest of the input files by split.
    """

    parts: Mapping[str, str]
    inputs: Mapping[str, str]

    @property
    def everything(self) -> dict[str, str]:
        """All digests, by what messages call their subject."""
        by_split = {f"the inputs of split '{split}'": d for split, d in self.inputs.items()}
        return {**self.parts, **by_split}

    @property
    def digest(self) -> str:
        """One digest of everything but the inputs."""
        return _sha256(json.dumps(sorted(self.parts.items())))

    def differences(self, other: Basis) -> list[str]:
        """Returns what differs between two runs, for messages."""
        own, others = self.everything, other.everything
        names = list({**own, **others})
        return [name for name in names if own.get(name) != others.get(name)]


class NoBasisError(Exception):
    """Something that has no digest, since nobody can tell whether it is the same tomorrow."""


def basis_of(
    settings: Mapping[str, Any],
    fingerprints: Mapping[str, str],
    versions: Mapping[str, str],
    inputs: Mapping[str, Sequence[InputFile]],
) -> Basis:
    """Returns what the results of a run depend on.

    Args:
      settings: everything else that results depend on, by what it is.
      fingerprints: the fingerprints of the models, by what messages call them.
      versions: versions of libraries.
      inputs: the input files of each split.

    Raises:
      NoBasisError: a model has no fingerprint, or a setting no digest.
    """
    for name, fingerprint in fingerprints.items():
        if not fingerprint:
            raise NoBasisError(f"{name} has no fingerprint")
    for file in (file for files in inputs.values() for file in files):
        if not file.modified:
            raise NoBasisError(f"nobody says when {file.path} was last changed")
    return Basis(
        parts={
            **fingerprints,
            **{name: digest_of(value) for name, value in settings.items()},
            "the versions of libraries": digest_of(versions),
        },
        inputs={
            split: digest_of([identity(file) for file in files]) for split, files in inputs.items()
        },
    )


def digest_of(value: Any) -> str:
    """Returns the SHA-256 of settings: of dataclasses, plain values and functions.

    A function counts with the source of its whole module, and so does the name of a hook. What that
    module imports does not count.

    Raises:
      NoBasisError: the value holds something else.
    """
    return _sha256(json.dumps(_plain(value, ())))


def _plain(value: Any, within: tuple[Any, ...]) -> Any:
    if isinstance(value, enum.Enum):
        return [type(value).__name__, value.name]
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, pa.Schema):
        return value.serialize().to_pybytes().hex()
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, within)
    if isinstance(value, Mapping):
        return [[_plain(key, within), _plain(item, within)] for key, item in value.items()]
    if isinstance(value, AbstractSet):
        return sorted(map(repr, value))
    if isinstance(value, (tuple, list)):
        return [_plain(item, within) for item in value]
    if inspect.isfunction(value) or inspect.isclass(value):
        return _function(value, within)
    raise NoBasisError(f"{value!r} is neither a plain value nor a function with a source")


def _dataclass(value: Any, within: tuple[Any, ...]) -> list[Any]:
    values = {field.name: getattr(value, field.name) for field in fields(value)}
    kind = type(value)
    if not kind.__module__.startswith("bulk_inferencer."):
        return [_function(kind, within), _plain(values, within)]
    kept = {name: item for name, item in values.items() if name not in _WITHOUT_EFFECT}
    for name in _FUNCTIONS:
        if isinstance(kept.get(name), str) and kept[name]:
            kept[name] = importing.function(name, kept[name])
    if modules := kept.get("import_modules"):
        kept["import_modules"] = [[name, _source_of_module(name)] for name in modules]
    return [kind.__name__, _plain(kept, within)]


def _function(function: Any, within: tuple[Any, ...]) -> list[Any]:
    if any(function is outer for outer in within):
        raise NoBasisError(f"{function!r} refers to itself")
    try:
        path = inspect.getsourcefile(function) or ""
        cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    except (TypeError, ValueError):  # without a file, or with a variable that has no value yet
        path = ""
    if not path or not _files.exists(path):
        raise NoBasisError(f"{function!r} has no source")
    defaults = [getattr(function, name, None) for name in ("__defaults__", "__kwdefaults__")]
    name = [function.__module__, function.__qualname__, _files.sha256(path).hex()]
    code = _code(getattr(function, "__code__", None))
    within = (*within, function)
    return [*name, code, _plain(cells, within), _plain(defaults, within)]


def _code(code: CodeType | None) -> list[Any]:
    """Tells functions apart that stand on one line."""
    if code is None:
        return []
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_firstlineno, code.co_code.hex(), constants, list(code.co_names)]


def _source_of_module(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if not spec or not spec.origin or not _files.exists(spec.origin):
        raise NoBasisError(f"module {name} has no source")
    return _files.sha256(spec.origin).hex()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
