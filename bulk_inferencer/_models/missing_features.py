"""What to say of a model whose inputs the records have no features for."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping

import pyarrow as pa

from bulk_inferencer._formats.column_values import FLOAT32, INT64, STRING, kinds_of_columns
from bulk_inferencer._formats.example import Kind
from bulk_inferencer._models.inputs import Input
from bulk_inferencer.errors import ModelError

# What Keras calls inputs that have no name of their own, or whose names it has lost.
_LOST_NAME = re.compile(r"(keras_tensor|args|arg|inputs?|input_layer)(_\d+)*")
_MOST_LISTED = 30
_MOST_CANDIDATES = 3


def message(
    where: str,
    wanted: Mapping[str, Input],
    missing: Collection[str],
    seen: Mapping[str, Kind | None],
) -> str:
    """Returns what the model wants, what the records have, and what to do.

    Args:
      where: what to call the model.
      wanted: its inputs that features go to.
      missing: those of them that no record has.
      seen: the features of the records.
    """
    missing = sorted(missing)
    free = {name: kind for name, kind in seen.items() if name not in wanted}
    guesses = {name: _candidates(name, wanted[name], free) for name in missing}
    having = f"the records have {_listed(sorted(seen))}" if seen else "the records have no features"
    if len(missing) < len(wanted):
        having += f", and no {_listed(missing)}"
    parts = [f"{where} wants {_listed(sorted(wanted))}, but {having}."]
    if not seen:
        parts.append("Check that they are tf.Examples.")
    parts += [
        f"Perhaps {name} is {' or '.join(found)}." for name, found in guesses.items() if found
    ]
    if all(map(_LOST_NAME.fullmatch, missing)):
        parts.append(
            "Such names come from Keras' own model.export(), which loses the names of a model's "
            "inputs."
        )
    spec = _feature_spec(wanted, missing, guesses)
    parts.append(
        f"Export the model with bulk_inferencer.serving.export(model, path, {spec}), which parses "
        f"the records; its transform= says which feature goes to which input. Or call the inputs "
        f"and the features by the same names."
    )
    return " ".join(parts)


def of_columns(
    where: str, wanted: Mapping[str, Input], missing: Collection[str], columns: pa.Schema
) -> str:
    """Returns what the model wants, which columns there are, and what to do; see `message`."""
    missing = sorted(missing)
    kinds = kinds_of_columns(columns)
    free = {name: kind for name, kind in kinds.items() if name not in wanted}
    having = f"the inputs have the columns {_listed(columns.names)}" if kinds else "there are none"
    noun = "column" if len(wanted) == 1 else "columns"
    parts = [f"{where} wants the {noun} {_listed(sorted(wanted))}, but {having}."]
    if len(missing) < len(wanted):
        parts.append(f"There is no {_listed(missing)}.")
    guesses = {name: _candidates(name, wanted[name], free) for name in missing}
    parts += [
        f"Perhaps {name} is {' or '.join(found)}." for name, found in guesses.items() if found
    ]
    name = missing[0]
    dtypes = {name: kind.dtype for name, kind in free.items() if kind and kind.size == 1}
    # Floats first, since integers may be identifiers.
    scalars = [n for dtype in (FLOAT32, INT64) for n in dtypes if dtypes[n] == dtype]
    size = math.prod(wanted[name].row_shape or ())
    if size > 1 and len(scalars) > 1:
        own = ", ".join(map(repr, scalars[:2]))
        several = f"[{own}{', ...' if size > 2 else ''}]"
        parts.append(
            f"'{name}' takes {size} values: say which columns these are, with "
            f"columns={{{name!r}: {several}}}."
        )
    else:
        old = guesses[name][0] if guesses[name] else next(iter(free), "column")
        parts.append(f"Say which column it is, for example with rename={{{old!r}: {name!r}}}.")
    return " ".join(parts)


def check_text(where: str, names: Collection[str], columns: pa.Schema) -> None:
    """Checks that inputs of strings, without a column of their name, can only want whole rows.

    Raises:
      ModelError: there are columns of text, of which one may be meant.
    """
    kinds = kinds_of_columns(columns)
    texts = [name for name, kind in kinds.items() if kind and kind.dtype == STRING]
    if not texts:
        return
    name = min(names)
    raise ModelError(
        f"{where} takes text for its input '{name}', but no column has that name; there are "
        f"{_listed(columns.names)}. If it wants a column, say which, for example with "
        f"rename={{{texts[0]!r}: {name!r}}}. If it parses tf.Examples, set takes_records=True, and "
        f"it gets each row as one."
    )


def _candidates(name: str, own: Input, free: Mapping[str, Kind | None]) -> list[str]:
    """Returns the features that may be what an input takes."""
    alike = difflib.get_close_matches(name.lower(), [f.lower() for f in free], 1, 0.8)
    if alike:
        return [feature for feature in free if feature.lower() == alike[0]]
    count = None if own.row_shape is None else math.prod(own.row_shape)
    is_text = own.dtype == "string"
    fitting = [
        feature
        for feature, kind in sorted(free.items())
        if kind and (kind.dtype == "string") == is_text and count in (None, kind.size)
    ]
    return fitting if len(fitting) <= _MOST_CANDIDATES else []


def _feature_spec(
    wanted: Mapping[str, Input], missing: Collection[str], guesses: Mapping[str, list[str]]
) -> str:
    if len(wanted) != 1 or len(missing) != 1:
        return "feature_spec"
    ((name, own),) = wanted.items()
    if own.row_shape is None or len(guesses[name]) != 1:
        return "feature_spec"
    shape = list(own.row_shape)
    return f"{{{guesses[name][0]!r}: tf.io.FixedLenFeature({shape}, tf.{own.dtype})}}"


def _listed(names: Collection[str]) -> str:
    names = list(names)
    listed = ", ".join(names[:_MOST_LISTED])
    more = len(names) - _MOST_LISTED
    return f"{listed} and {more} more" if more > 0 else listed
