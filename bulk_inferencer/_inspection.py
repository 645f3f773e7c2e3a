"""Whether the first records of some files fit a model, found out by scoring them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bulk_inferencer._formats.batches import Batch, BatchBounds, read_batches
from bulk_inferencer._formats.columns import ColumnView, column_view
from bulk_inferencer._formats.detect import format_name, format_of, named_format
from bulk_inferencer._formats.example_columns import kinds_of_records
from bulk_inferencer._formats.first_records import FirstRecords, of_files
from bulk_inferencer._formats.input_format import InputFile, InputFormat, Reader
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._formats.rows import as_list, taken
from bulk_inferencer._models.described import SignatureDescription, describe, type_text
from bulk_inferencer._models.feeds import CONSTANT, RECORD
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.predictor import Model, fitted
from bulk_inferencer._models.scorer import Failed, Scorer
from bulk_inferencer._models.trial import types_of
from bulk_inferencer._units.inputs import list_files
from bulk_inferencer.engines import beam_options
from bulk_inferencer.errors import BulkInferencerError, InputError

if TYPE_CHECKING:
    import pyarrow as pa

_RECORDS = 64


@dataclass(frozen=True)
class Fit:
    """How the first records of some files went with a model.

    Attributes:
      input_format: the format of the files, such as `parquet`.
      files: how many there are.
      bytes: their size.
      columns: the columns that the model is offered, or the features of the first records, with
        their types; empty if records have none.
      unused: those of them that the model does not take.
      missing: features that the model parses of tf.Examples, and that are not among them. It may
        have defaults for them.
      records: how many records were tried.
      outputs: dtype and shape by output; empty if nothing was scored.
      failures: how many records failed, by reason.
      problem: why the model can take none of the records, and what to do; empty if it can.
    """

    input_format: str
    files: int
    bytes: int
    columns: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    records: int = 0
    outputs: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""

    @property
    def fits(self) -> bool:
        """Whether all of the records were scored."""
        return not (self.problem or self.failures)


def try_inputs(
    model: Model,
    splits: Mapping[str, Sequence[str]],
    *,
    input_format: InputFormat | str | None = None,
    columns: Sequence[str] | Mapping[str, str | Sequence[str]] = (),
    rename: Mapping[str, str] | None = None,
    record_format: str = FORMAT_TF_EXAMPLE,
    options: Sequence[str] = (),
) -> Fit:
    """Scores the first records of some files, and returns how it went.

    Args:
      model: the model.
      splits: files by split; see `InferenceJob`.
      input_format: see `InferenceJob`, as for the arguments below.
      columns: see there.
      rename: see there.
      record_format: see there.
      options: Beam's options, for its filesystems.

    Raises:
      InputError: there are no such files, or their format cannot be told.
    """
    beam_options.open_filesystems([own for every in splits.values() for own in every], options)
    files = [file for split, own in splits.items() for file in list_files(split, own)]
    own_format = format_of(files) if input_format is None else named_format(input_format)
    fit = Fit(format_name(own_format), len(files), sum(file.bytes for file in files))
    try:
        reader = own_format.reader(files, column_view(columns, rename or {}), ())
    except InputError as error:  # a column that is not there
        every = own_format.reader(files, ColumnView(), ())
        return replace(fit, columns=_types(every.features), problem=str(error))
    return _try(model, reader, files, record_format, fit)


def _try(
    model: Model, reader: Reader, files: Sequence[InputFile], record_format: str, fit: Fit
) -> Fit:
    record_format = reader.record_format or record_format
    first = of_files(reader, files)
    fit = replace(fit, columns=_types(_features(reader, first, record_format)))
    try:
        signatures = {own.name for own in model.check(record_format)}
        called = [own for own in describe(model).signatures if own.name in signatures]
        if not (isinstance(model, HookedModel) and model.preprocess):
            parsed = {name for signature in called for name in signature.parses}
            missing = tuple(sorted(parsed - fit.columns.keys())) if fit.columns else ()
            fit = replace(fit, unused=_unused(called, fit.columns), missing=missing)
        model = fitted(model, record_format, first)
        batch = next(read_batches(reader, files, BatchBounds(max_records=_RECORDS)), None)
        if batch is None:
            return replace(fit, problem="The files hold no records.")
        return _score(Scorer(model.load(record_format)), batch, fit)
    except BulkInferencerError as error:
        return replace(fit, problem=str(error))


def _score(scorer: Scorer, batch: Batch, fit: Fit) -> Fit:
    count = len(batch.records)
    unreadable = (f"{own.error_type}: {own.message}" for own in batch.unreadable.values())
    failures = Counter(unreadable)
    readable = [index for index in range(count) if index not in batch.unreadable]
    predictions = []
    for result in scorer.score(taken(batch.records, readable)) if readable else ():
        if isinstance(result, Failed):
            failures[result.reason] += 1
        else:
            predictions.append(result.prediction.outputs)
    outputs = {name: type_text(own) for name, own in types_of(predictions).items()}
    return replace(fit, records=count, outputs=outputs, failures=dict(failures.most_common()))


def _features(reader: Reader, first: FirstRecords, record_format: str) -> pa.Schema | None:
    if reader.features is not None:
        return reader.features
    if record_format != FORMAT_TF_EXAMPLE:
        return None
    return kinds_of_records(as_list(first.batch(_RECORDS)))


def _types(schema: pa.Schema | None) -> dict[str, str]:
    return {} if schema is None else {own.name: str(own.type) for own in schema}


def _unused(called: Iterable[SignatureDescription], columns: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the columns that no input takes; none if that is not known."""
    parsed = {name for signature in called for name in signature.parses}
    if parsed and all(signature.parses for signature in called):
        return tuple(name for name in columns if name not in parsed)
    inputs = [own for signature in called for own in signature.inputs]
    roles = {own.name: own.takes for own in inputs}
    takes_all = {RECORD, ""} & set(roles.values())
    if not inputs or takes_all:
        return ()
    taken_names = {name for name, role in roles.items() if role != CONSTANT}
    if not taken_names & columns.keys():  # Perhaps an input takes the record.
        return ()
    return tuple(name for name in columns if name not in taken_names)
