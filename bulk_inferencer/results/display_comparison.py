"""What is shown of a comparison: agreement and differences per output, and outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bulk_inferencer.results.amounts import share
from bulk_inferencer.results.blocks import Block, Cell, Grid, Value, grid, number, shortened

if TYPE_CHECKING:
    from bulk_inferencer.results.comparison import (
        ClassPair,
        Comparison,
        DifferentRecord,
        OutputComparison,
        PairComparison,
    )

_MOST_CLASSES = 8
_MOST_CLASS_PAIRS = 10
_MOST_RECORDS = 5
_MOST_VALUES = 4
_LONGEST_NAME = 60
_NOT_FINITE = ("nan", "inf", "-inf")  # numbers as comparisons hold them


def title(comparison: Comparison) -> str:
    """Returns what was compared, in a line."""
    pairs = [f"{a} and {b}" for a, b in (pair.models for pair in comparison.pairs)]
    outcomes = [f"outcomes of {', '.join(comparison.outcomes)}"] if comparison.outcomes else []
    return f"Comparison of {'; '.join(pairs + outcomes) or 'no models'}"


def blocks(comparison: Comparison, most_records: int = _MOST_RECORDS) -> Iterator[Block]:
    """Yields what is known of each pair of models, and the outcomes."""
    for pair in comparison.pairs:
        if len(comparison.pairs) > 1:
            yield f"{pair.models[0]} and {pair.models[1]}:"
        yield from _pair(pair, most_records)
    if comparison.outcomes:
        yield "Outcomes, with the 95 % confidence interval of their mean:"
        yield grid(
            ("model", "outcomes", "mean", "from", "to"),
            [(m, own.count, own.mean, own.low, own.high) for m, own in comparison.outcomes.items()],
        )


def _pair(pair: PairComparison, most_records: int) -> Iterator[Block]:
    a, b = pair.models
    rows = [(name, *_differences(own)) for name, own in pair.outputs.items()]
    head = ("output", "records", "agree", f"mean |{a} - {b}|", "largest", "NaN or infinite")
    if rows:
        yield grid(head, rows)
    for output, own in pair.outputs.items():
        name = shortened(output, _LONGEST_NAME)
        if own.confusion:
            yield f"Classes of {name}:"
            yield _confusion(own.confusion, pair.models)
        elif own.confusion is None:
            yield f"{name} has too many classes for a table of them."
        if different := [record for record in own.most_different if record.difference > 0]:
            yield f"Records whose {name} differs most:"
            rows_of = [_different(record, pair.models) for record in different]
            yield grid(("key", a, b, "difference", "input"), rows_of, most_records)
    if pair.not_compared:
        yield f"Not compared of {a} and {b}:"
        yield grid(("output", "why"), list(pair.not_compared.items()))


def _differences(own: OutputComparison) -> tuple[Cell, ...]:
    has_numbers = bool(own.values)
    return (
        own.records,
        Value(share(own.agreeing, own.records)),
        own.mean_absolute_difference if has_numbers else None,
        own.max_absolute_difference if has_numbers else None,
        own.not_finite or None,
    )


def _different(record: DifferentRecord, models: tuple[str, str]) -> tuple[Cell, ...]:
    values = [_values(record.values.get(model, ())) for model in models]
    place = f"{record.file.rpartition('/')[2]}, record {record.record}"
    return (_readable(record.keys) or None, *values, record.difference, place)


def _confusion(pairs: tuple[ClassPair, ...], models: tuple[str, str]) -> Grid:
    """Returns a matrix of two models' classes if there are few, and the largest pairs if not."""
    a, b = models
    records = {(own.classes[a], own.classes[b]): own.records for own in pairs}
    classes = sorted({name for pair in records for name in pair}, key=_by_number)
    if len(classes) > _MOST_CLASSES:
        rows: list[tuple[Cell, ...]] = [(*pair, count) for pair, count in records.items()]
        return grid((a, b, "records"), rows, _MOST_CLASS_PAIRS)
    matrix: list[tuple[Cell, ...]] = [
        (own, *(records.get((own, other), 0) for other in classes)) for own in classes
    ]
    return grid((f"{a} \N{RIGHTWARDS ARROW} {b}", *classes), matrix)


def _by_number(name: str) -> tuple[bool, int, str]:
    is_whole = name.isdecimal() and len(name) < 20
    return not is_whole, int(name) if is_whole else 0, name


def _values(values: Sequence[object]) -> Value | str:
    """Returns an output's values: numbers to the right, texts to the left."""
    text = _list(values)
    is_text = any(isinstance(own, str) and own not in _NOT_FINITE for own in values)
    return text if is_text else Value(text)


def _readable(keys: Mapping[str, Sequence[object]]) -> str:
    return ", ".join(f"{name} {_list(values)}" for name, values in keys.items())


def _list(values: Sequence[object]) -> str:
    """Returns values as text, without brackets around a lone one."""
    texts = [_value(own) for own in values[:_MOST_VALUES]]
    if len(values) == 1:
        return texts[0]
    more = ", ..." if len(values) > _MOST_VALUES else ""
    return f"[{', '.join(texts)}{more}]"


def _value(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)
