"""Those of Beam's options that open files, which is what they are for on any other engine."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from apache_beam.options.pipeline_options import (
    AzureOptions,
    GoogleCloudOptions,
    HadoopFileSystemOptions,
    S3Options,
)

_OF_FILES = (AzureOptions, GoogleCloudOptions, HadoopFileSystemOptions, S3Options)


def others_in(args: Iterable[str]) -> list[str]:
    """Returns the names of options that do not open files, such as `--runner`."""
    parser = argparse.ArgumentParser(add_help=False)
    for kind in _OF_FILES:
        kind._add_argparse_args(parser)
    known = {name for action in parser._actions for name in action.option_strings}
    names = [arg.partition("=")[0] for arg in args if arg.startswith("--")]
    return [name for name in names if name not in known]
