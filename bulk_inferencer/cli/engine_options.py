"""Options of the engine: what spreads the work over workers, and which modules they need."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bulk_inferencer.cli.options import Pair, by_name, option, options

if TYPE_CHECKING:
    from bulk_inferencer.engines.engine import Engine

_F = TypeVar("_F", bound=Callable[..., Any])

_SECTION = "Engine"
# The options of each engine, which are fields of it.
_OPTIONS = {
    "beam": ("accelerator", "min_ram", "worker_timeout_seconds"),
    "ray": ("address", "num_cpus", "num_gpus", "runtime_env", "node_seconds", "max_retries"),
    "spark": ("master", "conf"),
}
_OTHER_FLAGS = {"worker_timeout_seconds": "--worker-timeout"}  # than the names of the fields


class _JSONObject(click.ParamType):
    """An object in JSON."""

    name = "json"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns it as a dict."""
        if not isinstance(value, str):
            return value
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            example = '{"pip": ["scikit-learn"]}'
            self.fail(f"{value!r} is no object in JSON, such as '{example}'.", param, ctx)
        return found


def engine_options(command: _F) -> _F:
    """Decorates a command with the options."""
    return options(
        option(
            "--engine",
            type=click.Choice(list(_OPTIONS)),
            default="beam",
            show_default=True,
            section=_SECTION,
            help="What spreads the work over workers: Apache Beam, whose options stand behind --, "
            "or a Ray or Spark cluster.",
        ),
        option(
            "--accelerator",
            metavar="HINT",
            section=_SECTION,
            help="What Beam's workers that hold the model need, such as "
            "type:nvidia-tesla-t4;count:1;install-nvidia-driver. Runners that know no hints ignore "
            "it.",
        ),
        option(
            "--min-ram",
            metavar="SIZE",
            section=_SECTION,
            help="Memory that Beam's workers that hold the model need, such as 30GB.",
        ),
        option(
            "--worker-timeout",
            "worker_timeout_seconds",
            type=float,
            metavar="SECONDS",
            section=_SECTION,
            help="For how long Beam's portable runners may go without a sign of life of any "
            "worker.  [default: 600]",
        ),
        option(
            "--address",
            metavar="ADDRESS",
            section=_SECTION,
            help="The Ray cluster, such as ray://head:10001.  [default: that of RAY_ADDRESS, one "
            "that runs on this machine, or a new one]",
        ),
        option(
            "--num-cpus",
            type=float,
            metavar="N",
            section=_SECTION,
            help="Cores that each unit takes on Ray.  [default: 1]",
        ),
        option(
            "--num-gpus",
            type=float,
            metavar="N",
            section=_SECTION,
            help="GPUs that each unit takes on Ray, which may be a part of one.  [default: 0]",
        ),
        option(
            "--runtime-env",
            type=_JSONObject(),
            metavar="JSON",
            section=_SECTION,
            help='What Ray prepares on workers, such as \'{"pip": ["scikit-learn"]}\'.',
        ),
        option(
            "--node-seconds",
            type=float,
            metavar="SECONDS",
            section=_SECTION,
            help="How long to wait for a node of Ray that is large enough for a unit.  "
            "[default: 60]",
        ),
        option(
            "--max-retries",
            type=int,
            metavar="N",
            section=_SECTION,
            help="How often Ray runs a unit again after its process or its node died, or its "
            "files failed; -1 for without end.  [default: 3]",
        ),
        option(
            "--master",
            metavar="URL",
            section=_SECTION,
            help="The Spark cluster, such as spark://head:7077, or local[4].",
        ),
        option(
            "--conf",
            type=Pair("NAME", "VALUE"),
            multiple=True,
            section=_SECTION,
            help="A setting of Spark; may be given several times.",
        ),
        option(
            "--module",
            "modules",
            metavar="FILE",
            multiple=True,
            section=_SECTION,
            help="A Python file or wheel that workers need for functions of the model; may be "
            "given several times. Not needed for a file in the current folder that MODEL or an "
            "option names.",
        ),
    )(command)


def engine_of(given: Mapping[str, Any], args: Sequence[str]) -> tuple[Engine, dict[str, Any]]:
    """Returns the engine that the options stand for, and the other options.

    Args:
      given: all options.
      args: those of Beam, behind `--`.

    Raises:
      click.UsageError: an option belongs to another engine.
      SettingsError: a setting is not valid.
    """
    own, rest = given["engine"], {"engine"}
    for name, names in _OPTIONS.items():
        rest |= set(names)
        for wrong in [n for n in names if name != own and given[n] not in (None, ())]:
            wrong = _OTHER_FLAGS.get(wrong) or f"--{wrong.replace('_', '-')}"
            raise click.UsageError(
                f"{wrong} is for --engine {name}, but the engine is {own}. Write --engine {name}, "
                f"or leave out {wrong}."
            )
    settings = {name: given[name] for name in _OPTIONS[own] if given[name] is not None}
    if "conf" in settings:
        settings["conf"] = by_name("--conf", settings["conf"])
    others = {name: value for name, value in given.items() if name not in rest}
    _check_beam_options(own, args)
    from bulk_inferencer import engines

    kind = getattr(engines, own.capitalize())
    return kind(options=tuple(args), **settings), others


def _check_beam_options(engine: str, args: Sequence[str]) -> None:
    """Checks Beam's options, which on other engines can only open files."""
    if not args:
        return
    from bulk_inferencer.engines.beam_file_options import others_in
    from bulk_inferencer.engines.beam_options import check_options

    if engine != "beam" and (others := others_in(args)):
        raise click.UsageError(
            f"With --engine {engine}, Beam's options only open files, as --s3_region_name does, "
            f"but {others[0]} does not. Leave it out."
        )
    check_options(args)


def is_local(engine: Engine) -> bool:
    """Returns whether the workers are this process, or start in its folder."""
    from bulk_inferencer.engines import beam_options
    from bulk_inferencer.engines.beam import Beam

    if not isinstance(engine, Beam):
        return False
    return isinstance(engine.options, tuple) and beam_options.is_local(engine.options)
