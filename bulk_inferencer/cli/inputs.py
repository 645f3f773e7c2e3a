"""INPUTS on the command line: which files, how they are read, and what the model sees of tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import click

from bulk_inferencer.cli.options import Names, Pair, by_name, names_in, option, options

_F = TypeVar("_F", bound=Callable[..., Any])

Splits: TypeAlias = dict[str, list[str]]

_SECTION = "Inputs"
_ONLY_SPLIT = "inputs"
_RECORD_FORMATS = {
    "tf_example": "FORMAT_TF_EXAMPLE",
    "sequence_example": "FORMAT_TF_SEQUENCE_EXAMPLE",
    "bytes": "FORMAT_PROTO",
}
# The options that `reading_of` takes.
_OPTIONS = ("format", "types", "delimiter", "columns", "rename", "record_format")


def input_options(command: _F) -> _F:
    """Decorates a command with the options that say how inputs are read."""
    return options(
        option(
            "--format",
            type=click.Choice(["tfrecord", "parquet", "csv", "json_lines", "files"]),
            section=_SECTION,
            help="The format of the files; with `files`, each is a record.  [default: as their "
            "content and names say]",
        ),
        option(
            "--columns",
            type=_Columns(),
            multiple=True,
            section=_SECTION,
            help="Columns of tables that the model sees, such as x1,x2; or what an input takes,"
            " such as x=value, or x=a,b,c for a vector.  [default: all]",
        ),
        option(
            "--rename",
            type=Pair("COLUMN", "NAME"),
            multiple=True,
            section=_SECTION,
            help="The name under which the model sees a column; may be given several times.",
        ),
        option(
            "--type",
            "types",
            type=Pair("COLUMN", "TYPE"),
            multiple=True,
            section=_SECTION,
            help="Type of a column of CSV or JSON Lines, such as zip=text or x=float32, with "
            "--format.",
        ),
        option(
            "--delimiter",
            metavar="CHARACTER",
            section=_SECTION,
            help="What separates the values of CSV, with --format csv.",
        ),
        option(
            "--record-format",
            type=click.Choice(list(_RECORD_FORMATS)),
            default="tf_example",
            show_default=True,
            section=_SECTION,
            help="What a record of TFRecord files is.",
        ),
    )(command)


class _Input(NamedTuple):
    """What an input of the model takes: a column, or several as a vector."""

    name: str
    columns: str | list[str]


class _Columns(Names):
    """Names, or an input with `=` and what it takes."""

    name = "columns"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns names, or an `_Input`."""
        if not isinstance(value, str) or "=" not in value:
            return super().convert(value, param, ctx)
        name, _, columns = value.partition("=")
        names = names_in(columns)
        if not (name and names):
            self.fail(f"{value!r} is neither COLUMN,COLUMN nor INPUT=COLUMN,COLUMN.", param, ctx)
        return _Input(name, names[0] if len(names) == 1 else list(names))


def inputs_of(
    inputs: Sequence[str], splits: Sequence[tuple[str, str]], optional: bool = False
) -> Splits:
    """Returns the paths and patterns of each split.

    Raises:
      click.UsageError: there are none, although they are not optional, or there are both.
    """
    if inputs and splits:
        raise click.UsageError("There are both INPUTS and --split. Name all files with --split.")
    if not (inputs or splits or optional):
        raise click.UsageError("There are no INPUTS. Name files, folders or patterns to score.")
    found: Splits = {}
    for name, pattern in splits or [(_ONLY_SPLIT, path) for path in inputs]:
        found.setdefault(name, []).append(pattern)
    return found


def reading_of(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arguments of `predict` that say how inputs are read, and the other options.

    Raises:
      click.UsageError: an option does not belong to the format, or a name is there twice.
      SettingsError: a setting is not valid.
    """
    others = {name: value for name, value in given.items() if name not in _OPTIONS}
    return {
        "input_format": _format_of(
            given["format"], by_name("--type", given["types"]), given["delimiter"]
        ),
        "columns": _columns_of(given["columns"]),
        "rename": by_name("--rename", given["rename"]),
        "record_format": _RECORD_FORMATS[given["record_format"]],
    }, others


def _format_of(name: str | None, types: Mapping[str, str], delimiter: str | None) -> Any:
    if types and name not in ("csv", "json_lines"):
        raise click.UsageError("--type needs --format csv or --format json_lines beside it.")
    if delimiter and name != "csv":
        raise click.UsageError("--delimiter needs --format csv beside it.")
    if name == "csv" and (types or delimiter):
        from bulk_inferencer._formats.csv import CSV

        tab = {"\\t": "\t", "tab": "\t"}
        own: dict[str, Any] = {"delimiter": tab.get(delimiter, delimiter)} if delimiter else {}
        return CSV(types=types, **own)
    if types:
        from bulk_inferencer._formats.json_lines import JSONLines

        return JSONLines(types=types)
    return name


def _columns_of(given: Sequence[Any]) -> Any:
    """Returns `columns` of `predict`: names, or what each input takes."""
    inputs = [own for own in given if isinstance(own, _Input)]
    names = [name for own in given if not isinstance(own, _Input) for name in own]
    if not inputs:
        return tuple(names)
    return by_name("--columns", [*((name, name) for name in names), *inputs])
