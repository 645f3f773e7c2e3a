"""Names of models and stages: what stands in channels, files, outputs and messages."""

from __future__ import annotations

import re

from bulk_inferencer.errors import SettingsError

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def check_name(name: str, what: str) -> None:
    """Checks that a name can stand in channels, files and outputs.

    Args:
      name: the name.
      what: of what it is one, for messages.

    Raises:
      SettingsError: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(
            f"Expected the name of a {what} to be lower-case letters, digits and underscores, and "
            f"to begin with a letter, got {name!r}. Rename it."
        )


def in_words(model: str) -> str:
    """Returns how messages call a model: `Model 'five'`, nothing for one that stands by itself."""
    return f"Model '{model}'" if model else ""
