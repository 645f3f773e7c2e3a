"""Models one after the other, as one model: a cheap one may settle what the dear one need not see.

    records -> small -> exits?  yes -> settled by small
                                no  -> record + columns -> full -> settled by full

Stages run in one process, batch by batch, and nothing goes through disk between them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from bulk_inferencer._formats.example import Column, append_columns
from bulk_inferencer._formats.partial import plain, rows_with, spread
from bulk_inferencer._models.names import check_name
from bulk_inferencer._models.predictor import (
    FORMAT_PROTO,
    FORMAT_TF_EXAMPLE,
    FORMAT_TF_SEQUENCE_EXAMPLE,
    Model,
    OutOfMemory,
    Predictor,
    RecordError,
    check_is_model,
)
from bulk_inferencer._signatures import PREDICT, Signature, output_names
from bulk_inferencer.errors import BulkInferencerError, ModelError, SettingsError, located


@dataclass(frozen=True)
class ExitWhen:
    """Which records a stage settles: those whose output lies within the bounds that are given.

    Attributes:
      output: an output of numbers; of several values for one record, the largest counts.
      at_least: the least value that settles a record.
      at_most: the largest value that does.

    Raises:
      SettingsError: there is no bound, or no value lies within them.
    """

    output: str
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise SettingsError(
                f"Expected at_least, at_most or both for the exit on output '{self.output}', got "
                f"neither. Say which values settle a record."
            )
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        if not low <= high:  # NaN is neither
            raise SettingsError(
                f"Expected at_least to be no larger than at_most for the exit on output "
                f"'{self.output}', got {low} and {high}. For two ranges, give two exits."
            )

    def settles(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns which records are settled: booleans of shape [n].

        Args:
          outputs: arrays of shape [n, ...] by name.

        Raises:
          ModelError: the output does not exist, or holds no numbers.
        """
        if self.output not in outputs:
            raise ModelError(
                f"Expected output '{self.output}' to exit by, got {', '.join(sorted(outputs))}. "
                f"Correct exit_when."
            )
        values = outputs[self.output]
        settled = rows_with(values)
        if not values.size:
            return np.zeros(len(values), bool)
        if not settled.any():
            return settled
        if not _is_number(values.dtype):
            raise ModelError(
                f"Expected output '{self.output}' to hold numbers to exit by, got {values.dtype} "
                f"of shape {values.shape}. Name an output of numbers in exit_when."
            )
        # In the output's own precision: a probability of 0.9 is at least 0.9 in float32 too.
        numbers = plain(values)
        if numbers.dtype.kind == "V":  # bfloat16
            numbers = numbers.astype(np.float32)
        largest = numbers.reshape(len(numbers), -1).max(axis=1)
        if self.at_least is not None:
            settled &= largest >= self.at_least
        if self.at_most is not None:
            settled &= largest <= self.at_most
        return settled


@dataclass(frozen=True)
class Stage:
    """One model of a cascade.

    Attributes:
      name: its name; its outputs stand under `<name>/<output>`.
      model: the model.
      columns: outputs that become features of the next stage's records, in place of features of
        the same name.
      exit_when: which records are settled here and do not reach the next stage: those that one of
        these settles. Default: none.

    Raises:
      SettingsError: the model, columns or exits are something else.
    """

    name: str
    model: Model
    columns: Sequence[Column] = ()
    exit_when: Sequence[ExitWhen] = ()

    def __post_init__(self) -> None:
        check_is_model(self.model)
        for setting, kind in (("columns", Column), ("exit_when", ExitWhen)):
            given = getattr(self, setting)
            # A Column is a tuple itself, of two strings.
            if isinstance(given, kind) or not all(isinstance(entry, kind) for entry in given):
                raise SettingsError(
                    f"Expected a list of {kind.__name__} as {setting} of stage '{self.name}', got "
                    f"{given!r}. Put it into a list."
                )
            object.__setattr__(self, setting, tuple(given))


@dataclass(frozen=True)
class CascadeModel:
    """Several models in order, each with what the one before it returned.

    The outputs of a record are those of the last stage that ran for it and, under
    `<stage>/<output>`, those of every stage that did.

    Attributes:
      stages: the models, at least one.

    Raises:
      SettingsError: a stage is of another type, its name is none or is taken, or the last one
        names columns or exits although there is no next one.
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise SettingsError("Expected at least one stage, got none. Name the models in order.")
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise SettingsError(
                    f"Expected stages of a cascade, got a {type(stage).__name__}. Give "
                    f"Stage(name, model)."
                )
            check_name(stage.name, "stage")
        names = [stage.name for stage in self.stages]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise SettingsError(
                f"Expected every stage to have a name of its own, got {', '.join(doubled)} more "
                f"than once. Rename one."
            )
        last = self.stages[-1]
        if last.columns or last.exit_when:
            raise SettingsError(
                f"Expected the last stage, '{last.name}', without columns and exits, since no "
                f"stage follows it. Leave them out, or add a stage."
            )

    @property
    def uri(self) -> str:
        """See `Model.uri`: those of all stages."""
        return " > ".join(stage.model.uri for stage in self.stages)

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """See `Model.check`.

        Raises:
          SettingsError: a stage's columns or exits name an output that it does not have, or need
            records of another format.
        """
        signatures = []
        for stage in self.stages:
            with located(_where(stage)):
                signatures.append(stage.model.check(record_format))
                _check_stage(stage, signatures[-1], record_format)
        return (_signature(self.stages, signatures),)

    def load(self, record_format: str) -> Predictor:
        """See `Model.load`."""
        predictors = []
        for stage in self.stages:
            with located(_where(stage)):
                predictors.append(stage.model.load(record_format))
        return _CascadePredictor(self.stages, predictors)

    def fingerprint(self) -> str:
        """Returns the SHA-256 of all that makes the stages, empty where a model has none."""
        fingerprints = [stage.model.fingerprint() for stage in self.stages]
        if not all(fingerprints):
            return ""
        made_of = [
            (stage.name, fingerprint, stage.columns, stage.exit_when)
            for stage, fingerprint in zip(self.stages, fingerprints, strict=True)
        ]
        return hashlib.sha256(repr(made_of).encode()).hexdigest()


class _CascadePredictor:
    def __init__(self, stages: Sequence[Stage], predictors: Sequence[Predictor]) -> None:
        self._stages = tuple(zip(stages, predictors, strict=True))
        self.stages = tuple(stage.name for stage in stages)
        self.signatures = (_signature(stages, [p.signatures for p in predictors]),)

    @property
    def input_name(self) -> str:
        return self._stages[0][1].input_name

    @property
    def versions(self) -> Collection[str]:
        return {
            f"{stage.name}/{v}" for stage, predictor in self._stages for v in predictor.versions
        }

    def predict(self, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        count = len(batch)
        records, rows = list(batch), np.arange(count)
        of_stages: dict[str, np.ndarray] = {}
        settled: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for stage, predictor in self._stages:
            with located(_where(stage)):
                with _blaming_records(stage):
                    outputs = predictor.predict(records)
                leaves = self._leaves(stage, outputs, len(rows))
                for name, values in outputs.items():
                    if len(rows) < count and not values.size:
                        continue  # without a value there is nothing to tell who has it
                    of_stages[f"{stage.name}/{name}"] = spread([(rows, values)], count)
                    if rows_with(values)[leaves].any():
                        settled.setdefault(name, []).append((rows[leaves], values[leaves]))
                if leaves.all():
                    break
                stays = np.flatnonzero(~leaves)
                rows = rows[stays]
                records = append_columns(
                    [records[i] for i in stays],
                    {name: values[stays] for name, values in outputs.items()},
                    stage.columns,
                    replace_features=True,
                )
        _check_alike(settled)
        ran = {name: spread(parts, count) for name, parts in settled.items()} | of_stages
        # Outputs of stages that did not run exist too: for none of the records.
        absent = np.ma.masked_all(count, object)  # type: ignore[no-untyped-call]
        # Sorted, since what settles records differs from batch to batch, and a second attempt has
        # to write what the first one wrote.
        return {**dict.fromkeys(self.signatures[0].outputs, absent), **dict(sorted(ran.items()))}

    def _leaves(self, stage: Stage, outputs: dict[str, np.ndarray], count: int) -> np.ndarray:
        """Returns which of `count` records no other stage gets to see."""
        if stage is self._stages[-1][0]:
            return np.ones(count, bool)
        leaves = np.zeros(count, bool)
        for exit_when in stage.exit_when:
            leaves |= exit_when.settles(outputs)
        return leaves


def count_stages(stages: Sequence[str], outputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Returns how many records each stage ran for, by the outputs that they have.

    Args:
      stages: names of the stages.
      outputs: what a cascade's predictor returned.
    """
    ran = dict.fromkeys(stages, 0)
    for name, values in outputs.items():
        stage, _, output = name.partition("/")
        if output and stage in ran:
            # Not each of its outputs: with a cascade as a stage, some are of a stage of that.
            ran[stage] = max(ran[stage], int(rows_with(values).sum()))
    return ran


def _is_number(dtype: np.dtype) -> bool:
    # bfloat16 is of numpy's kind "V": it comes from ml_dtypes.
    return dtype.kind in "biuf" or dtype.name == "bfloat16"


def _check_alike(settled: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]) -> None:
    """Checks that an output is the same kind of thing whichever stage it comes from.

    Raises:
      ModelError: it is not.
    """
    for name, parts in settled.items():
        kinds = {(str(values.dtype), values.shape[1:]) for _, values in parts}
        if len(kinds) > 1:
            listed = " and ".join(
                f"{dtype} of shape {list(shape)}" for dtype, shape in sorted(kinds)
            )
            raise ModelError(
                f"Expected output '{name}' to have one dtype and shape in all stages that settle "
                f"records, got {listed}. Rename or cast it in one of the serving signatures."
            )


def _check_stage(stage: Stage, signatures: Sequence[Signature], record_format: str) -> None:
    if stage.columns and record_format == FORMAT_PROTO:
        raise SettingsError(
            f"Expected {FORMAT_TF_EXAMPLE} or {FORMAT_TF_SEQUENCE_EXAMPLE} records to add columns "
            f"to, got {FORMAT_PROTO}. Leave out the columns: the next stage then gets the record "
            f"as it is."
        )
    outputs = output_names(signatures)
    wanted = [column.output for column in stage.columns] + [e.output for e in stage.exit_when]
    missing = [output for output in wanted if outputs and output not in outputs]
    if missing:
        raise SettingsError(
            f"Expected columns and exits to name outputs of {stage.model.uri}, got "
            f"{', '.join(map(repr, missing))}; it has: {', '.join(outputs)}. Correct the names."
        )


def _check_signatures(stages: Sequence[Stage], signatures: Sequence[Signature]) -> None:
    """Checks that `<signature>/<output>` of a stage cannot be taken for `<stage>/<output>`.

    Raises:
      SettingsError: it can.
    """
    named_alike = {stage.name for stage in stages} & {signature.name for signature in signatures}
    if len(signatures) > 1 and named_alike:
        raise SettingsError(
            f"Expected stages with other names than those of several signatures of a stage, got "
            f"{', '.join(sorted(named_alike))} for both. Rename the stage."
        )


def _signature(stages: Sequence[Stage], signatures: Sequence[Sequence[Signature]]) -> Signature:
    """Returns one signature for all: whatever theirs are, a `predict_log` holds their outputs.

    Raises:
      SettingsError: two outputs have one name.
    """
    names: list[str] = []
    settled: dict[str, None] = {}
    of_stages: dict[str, None] = {}
    is_known = True
    for stage, of_stage in zip(stages, signatures, strict=True):
        names += [f"{stage.name}/{signature.name}" for signature in of_stage]
        _check_signatures(stages, of_stage)
        known = output_names(of_stage)
        is_known = is_known and bool(known)
        settles = stage is stages[-1] or bool(stage.exit_when)
        settled.update(dict.fromkeys(known if settles else ()))
        of_stages.update(dict.fromkeys(f"{stage.name}/{output}" for output in known))
    if taken := sorted(settled.keys() & of_stages.keys()):
        raise SettingsError(
            f"Expected every output to have a name of its own, got {', '.join(taken)} both as an "
            f"output of a stage and under the name of another. Rename that stage."
        )
    return Signature(",".join(names), PREDICT, (*settled, *of_stages) if is_known else ())


@contextmanager
def _blaming_records(stage: Stage) -> Iterator[None]:
    """Names the stage in what a model raises because of its batch."""
    try:
        yield
    except BulkInferencerError:
        raise
    except OutOfMemory as error:
        raise OutOfMemory(f"{_where(stage)}: {error}") from error
    except RecordError as error:
        raise RecordError(error.error_type, f"{_where(stage)}: {error.message}") from error
    except Exception as error:  # a model may run any code
        raise RecordError(type(error).__name__, f"{_where(stage)}: {error}") from error


def _where(stage: Stage) -> str:
    return f"Stage '{stage.name}'"
