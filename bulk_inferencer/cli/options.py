"""Options in sections, the values that they take, and Beam's own options behind `--`."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

_OTHERS = "Others"
_PATHS = {"FILE": "file", "PATH": "file", "FOLDER": "dir", "OLDER": "dir"}  # by metavar
_F = TypeVar("_F", bound=Callable[..., Any])

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", re.IGNORECASE)


class Option(click.Option):
    """An option that stands in a section of the help."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        """Takes what click's option takes, and the section."""
        super().__init__(*args, **kwargs)
        self.section = section


def option(*names: str, section: str = "Options", **settings: Any) -> Callable[[_F], _F]:
    """Decorates a command with an option in a section."""
    return click.option(*names, cls=Option, section=section, **settings)


def options(*decorators: Callable[[Any], Any]) -> Callable[[_F], _F]:
    """Decorates a command with several options, in this order."""

    def decorate(command: _F) -> _F:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


class Command(click.Command):
    """A command whose help has sections. What comes behind `--` is in `ctx.meta[BEAM_OPTIONS]`."""

    takes_beam_options = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Takes Beam's options away first."""
        if self.takes_beam_options and "--" in args:
            end = args.index("--")
            ctx.meta[BEAM_OPTIONS] = tuple(args[end + 1 :])
            args = args[:end]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Returns what stands behind the name of the command."""
        pieces = super().collect_usage_pieces(ctx)
        return [*pieces, "[-- BEAM_OPTIONS...]"] if self.takes_beam_options else pieces

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections, in the order of their first options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                section = getattr(parameter, "section", _OTHERS)
                sections.setdefault(section, []).append(record)
        for section in sorted(sections, key=_OTHERS.__eq__):
            with formatter.section(section):
                formatter.write_dl(sections[section])


class CommandOfBeam(Command):
    """A command that passes what comes behind `--` on to Beam."""

    takes_beam_options = True


BEAM_OPTIONS = f"{__name__}.beam_options"


def beam_options(ctx: click.Context) -> tuple[str, ...]:
    """Returns the options behind `--`."""
    return ctx.meta.get(BEAM_OPTIONS, ())


class Text(click.types.StringParamType):
    """A text that is not empty, as that of a variable of a shell which nobody has set."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns the text."""
        is_typed = ctx and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
        if value == "" and is_typed:
            self.fail("it is empty text. Correct it, or leave it out.", param, ctx)
        return super().convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Lets a shell complete paths: all arguments are, and options whose value is called so."""
        kind = "file" if isinstance(param, click.Argument) else _PATHS.get(param.metavar or "")
        return [CompletionItem(incomplete, type=kind)] if kind else []


class Names(click.ParamType):
    """Names with commas between them; one that holds a comma stands in quotes."""

    name = "names"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns the names."""
        return names_in(value) if isinstance(value, str) else value


class Pair(click.ParamType):
    """Two texts with `=` between them."""

    def __init__(self, left: str, right: str) -> None:
        """Takes what to call both."""
        self.name = f"{left}={right}"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns both."""
        if not isinstance(value, str):
            return value
        left, equals, right = value.partition("=")
        if not (left and equals and right):
            self.fail(f"{value!r} is not of the form {self.name}.", param, ctx)
        return left, right


class Bytes(click.ParamType):
    """A number of bytes, such as 16MiB."""

    name = "bytes"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns the number."""
        if not isinstance(value, str):
            return value
        found = _BYTES.fullmatch(value.strip())
        if not found:
            self.fail(f"{value!r} is no number of bytes, such as 4194304 or 4MiB.", param, ctx)
        return int(float(found[1]) * _UNITS[(found[2] or "").lower()])


def names_in(text: str) -> tuple[str, ...]:
    """Returns the names in a text with commas between them."""
    row = next(csv.reader([text], skipinitialspace=True), [])
    return tuple(name.strip() for name in row if name.strip())


def joined(values: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Returns the names of all times that an option was given."""
    return tuple(name for own in values for name in own)


def by_name(option: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Returns pairs as a dict.

    Raises:
      click.UsageError: a name is there twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise click.UsageError(f"{option} names '{name}' twice. Name it once.")
        found[name] = value
    return found
