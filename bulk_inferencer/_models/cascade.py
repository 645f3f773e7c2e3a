"""Several models in order, as one model: a cheap one may spare the expensive one most records.

    records -> small -> exits?  yes -> settled by small
                                no  -> record + columns -> full -> settled by full

All stages run in one process, batch by batch; nothing in between goes through disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bulk_inferencer._checks import check_number, check_tuple, doubled
from bulk_inferencer._formats import dtypes
from bulk_inferencer._formats.column_values import check_features
from bulk_inferencer._formats.example import Column, check_columns
from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._formats.partial import plain, rows_with
from bulk_inferencer._formats.record_format import check_has_features
from bulk_inferencer._models.cascade_predictor import Appending, CascadePredictor
from bulk_inferencer._models.predictor import (
    Model,
    Predictor,
    check_is_model,
    check_name,
    fitted,
    stamp,
)
from bulk_inferencer._signatures import (
    PREDICT,
    OutputType,
    Signature,
    common_type,
    output_names,
    output_types,
)
from bulk_inferencer.errors import ModelError, SettingsError, prefix_errors


@dataclass(frozen=True)
class ExitWhen:
    """Settles the records for which an output lies within bounds.

    ```python
    ExitWhen("probability", at_least=0.9)
    ```

    Attributes:
      output: an output of numbers. If a record has several values, the largest one counts.
      at_least: the smallest value that settles a record.
      at_most: the largest value that settles a record.

    Raises:
      SettingsError: there is no bound, or no value lies within them.
    """

    output: str
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        low, high = self.at_least, self.at_most
        if low is None and high is None:
            raise SettingsError(
                f"ExitWhen has neither at_least nor at_most for output '{self.output}'. Say which "
                f"values settle a record."
            )
        for name, bound in (("at_least", low), ("at_most", high)):
            if bound is not None:
                check_number(f"ExitWhen.{name}", bound, "Leave it out for no bound.")
        if low is not None and high is not None and low > high:
            raise SettingsError(
                f"No value of output '{self.output}' is at least {low} and at most {high}, as "
                f"ExitWhen asks. For two separate ranges, use two of them."
            )

    def settles(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns which of n records are settled, by their outputs: booleans of shape [n].

        Raises:
          ModelError: the output does not exist, or does not hold numbers.
        """
        if self.output not in outputs:
            raise ModelError(
                f"Stage.exit_when names output '{self.output}', but the model returned only "
                f"{', '.join(sorted(outputs))}. Correct the name."
            )
        values = outputs[self.output]
        settled = rows_with(values)
        if not values.size:
            return np.zeros(len(values), bool)
        if not settled.any():
            return settled
        if not dtypes.is_number(values.dtype):
            raise ModelError(
                f"Stage.exit_when needs numbers to compare, but output '{self.output}' is "
                f"{values.dtype} of shape {values.shape}. Name an output of numbers."
            )
        # In the output's own precision: a probability of 0.9 is at least 0.9 in float32, too.
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

    ```python
    Stage("small", SavedModel("models/small"), exit_when=[ExitWhen("probability", at_least=0.9)])
    ```

    Attributes:
      name: its name; its outputs are called `<name>/<output>`.
      model: the model.
      columns: outputs that become features of the next stage's records. A column replaces a
        feature of the same name.
      exit_when: a record that any of these settles does not reach the next stage. Default: every
        record does.

    Raises:
      SettingsError: a column lacks an output or a name of its own, or columns or exits are
        something else.
    """

    name: str
    model: Model
    columns: Sequence[Column] = ()
    exit_when: Sequence[ExitWhen] = ()

    def __post_init__(self) -> None:
        # `CascadeModel` checks the model: Beam's Cascade takes specs, too.
        with prefix_errors(self.label):
            check_columns("Stage.columns", self.columns)
            check_tuple("Stage.exit_when", self.exit_when, ExitWhen)
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "exit_when", tuple(self.exit_when))

    @property
    def label(self) -> str:
        """The beginning of messages about it."""
        return f"Stage '{self.name}'"


@dataclass(frozen=True)
class CascadeModel:
    """Several models in order, each of which may use the outputs of the one before.

    ```python
    CascadeModel(
        [
            Stage("small", small, exit_when=[ExitWhen("probability", at_least=0.9)]),
            Stage("full", full),
        ]
    )
    ```

    A record has the outputs of the last stage that ran for it and, as `<stage>/<output>`, those of
    every stage that ran for it.

    Attributes:
      stages: the models, at least one.

    Raises:
      SettingsError: a stage is something else, its name is not valid or not unique, or the last
        stage has columns or exits.
    """

    stages: Sequence[Stage]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise SettingsError("The cascade has no stage. List its models.")
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise SettingsError(
                    f"{stage!r} in CascadeModel.stages is not a Stage. Use Stage(name, model)."
                )
            check_name(stage.name, "stage")
            with prefix_errors(stage.label):
                check_is_model(stage.model)
        if names := doubled(stage.name for stage in self.stages):
            raise SettingsError(f"Several stages are named {names}. Give each a name of its own.")
        last = self.stages[-1]
        if last.columns or last.exit_when:
            raise SettingsError(
                f"The last stage, '{last.name}', has Stage.columns or Stage.exit_when, but no "
                f"stage follows it. Remove them, or add a stage."
            )

    @property
    def uri(self) -> str:
        return " > ".join(stage.model.uri for stage in self.stages)

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """Returns one signature with the outputs of all stages.

        Raises:
          ModelError: see `Model.check`.
          SettingsError: columns or exits name an output that their stage does not have, or the
            records cannot take columns.
        """
        signatures = []
        for stage in self.stages:
            with prefix_errors(stage.label):
                signatures.append(stage.model.check(record_format))
                _check_stage(stage, signatures[-1], record_format)
        return (_signature(self.stages, signatures),)

    def load(self, record_format: str) -> Predictor:
        predictors = []
        for stage in self.stages:
            with prefix_errors(stage.label):
                predictors.append(stage.model.load(record_format))
        signature = _signature(self.stages, [own.signatures for own in predictors])
        return CascadePredictor(self.stages, predictors, signature)

    def fingerprint(self) -> str:
        """Returns the SHA-256 of all settings and models, or an empty string if one has none."""
        fingerprints = [stage.model.fingerprint() for stage in self.stages]
        if not all(fingerprints):
            return ""
        parts = [
            (stage.name, fingerprint, stage.columns, stage.exit_when)
            for stage, fingerprint in zip(self.stages, fingerprints, strict=True)
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def stamp(self) -> str:
        """Returns what changes if a file of one of the models is replaced."""
        return " ".join(stamp(stage.model) for stage in self.stages)

    def fitted(self, record_format: str, first: FirstRecords) -> CascadeModel:
        """Returns the same stages, each with its model as it is called for what reaches it."""
        stages = []
        for stage in self.stages:
            with prefix_errors(stage.label):
                model = fitted(stage.model, record_format, first)
            stages.append(replace(stage, model=model))
            if stage.columns:
                if first.columns:
                    check_features(first.columns)
                names = [column.name for column in stage.columns]
                first = first.with_features(names, Appending(stages[-1], record_format))
        return CascadeModel(stages)


def _check_stage(stage: Stage, signatures: Sequence[Signature], record_format: str) -> None:
    if stage.columns:
        advice = "Leave it out: the next stage then gets the record as it is."
        check_has_features(record_format, "Stage.columns", advice)
    outputs = output_names(signatures)
    wanted = [column.output for column in stage.columns] + [e.output for e in stage.exit_when]
    missing = [output for output in wanted if outputs and output not in outputs]
    if missing:
        raise SettingsError(
            f"Stage.columns or Stage.exit_when names {', '.join(map(repr, missing))}, but the "
            f"outputs of {stage.model.uri} are {', '.join(outputs)}. Use one of these."
        )


def _signature(stages: Sequence[Stage], signatures: Sequence[Sequence[Signature]]) -> Signature:
    """Returns the signature of the cascade, whose results are a `predict_log`.

    Raises:
      SettingsError: two outputs would have the same name.
    """
    names: list[str] = []
    final: dict[str, list[OutputType | None]] = {}
    by_stage: dict[str, OutputType | None] = {}
    is_known = True
    for stage, own in zip(stages, signatures, strict=True):
        names += [f"{stage.name}/{signature.name}" for signature in own]
        ambiguous = {other.name for other in stages} & {signature.name for signature in own}
        if len(own) > 1 and ambiguous:
            raise SettingsError(
                f"Stage '{stage.name}' has a signature with the name of a stage, "
                f"{', '.join(sorted(ambiguous))}, so that their outputs would be mixed up. Rename "
                f"that stage."
            )
        known, types = output_names(own), output_types(own)
        is_known = is_known and bool(known)
        settles = stage is stages[-1] or bool(stage.exit_when)
        for output in known:
            by_stage[f"{stage.name}/{output}"] = types.get(output)
            if settles:
                final.setdefault(output, []).append(types.get(output))
    if taken := sorted(final.keys() & by_stage.keys()):
        raise SettingsError(
            f"{', '.join(taken)} is the name of an output, and also <stage>/<output> of another "
            f"stage. Rename that stage."
        )
    outputs = (*final, *by_stage) if is_known else ()
    all_types = [*map(_common, final.values()), *by_stage.values()]
    known_types = tuple(own for own in all_types if own is not None)
    if len(known_types) != len(outputs):
        known_types = ()
    stage_names = tuple(stage.name for stage in stages)
    return Signature(",".join(names), PREDICT, outputs, stage_names, known_types)


def _common(types: Sequence[OutputType | None]) -> OutputType | None:
    """Returns the type of an output of several stages; None if that is not known."""
    known = [own for own in types if own is not None]
    return common_type(known) if len(known) == len(types) else None
