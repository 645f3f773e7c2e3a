"""From protos to dataclasses: data, tables, routing and comparison; see also `model_settings`."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._checks import check_tuple
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.columns import column_view
from bulk_inferencer._formats.table_settings import TableSettings
from bulk_inferencer._units.checkpoint import Checkpoint
from bulk_inferencer._units.damaged_files import DamagedFiles
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results.compare import Comparing
from bulk_inferencer.results.expectations import Expectations, expectations_of


def routing(spec: our.Routing) -> SplitRouting | None:
    """Returns which model a record goes to, or None if it goes to all of them.

    Raises:
      SettingsError: a weight is not a positive number.
    """
    if not spec.HasField("split"):
        return None
    return SplitRouting(dict(spec.split.weights), spec.split.split_key, spec.split.salt)


def comparing(spec: our.ComparisonSpec) -> Comparing:
    """Returns what the comparison of several models keeps.

    Raises:
      SettingsError: a number is out of range.
    """
    most = {"most_different": spec.most_different} if spec.HasField("most_different") else {}
    return Comparing(tuple(spec.key_features), **most)


def batch_bounds(data_spec: our.DataSpec, *model_specs: our.ModelSpec) -> BatchBounds:
    """Returns the tightest of the models' bounds of a batch; zero stands for the default.

    Raises:
      SettingsError: a bound is less than 1.
    """
    tightest: dict[str, int] = {}
    for spec in model_specs:
        for name, value in given_fields(spec.batch).items():
            tightest[name] = min(value, tightest.get(name, value))
    if data_spec.max_record_bytes:
        tightest["max_record_bytes"] = data_spec.max_record_bytes
    return BatchBounds(**tightest)


def example_splits(spec: our.DataSpec) -> tuple[str, ...]:
    """Returns the names of the splits to score; none stands for all.

    Raises:
      SettingsError: they are the letters of one name.
    """
    names = tuple(spec.example_splits)
    check_tuple("DataSpec.example_splits", names, str)
    return names


def failure_limit(spec: our.DataSpec) -> FailureLimit:
    """Returns how many records may fail.

    Raises:
      SettingsError: a limit is out of its range.
    """
    return FailureLimit(**given_fields(spec.failure_limit))


def damaged_files(spec: our.DataSpec) -> DamagedFiles:
    """Returns what to do about damaged files.

    Raises:
      SettingsError: there is no such policy, or the limit is less than 0.
    """
    policy = name_of(spec, "damaged_files", "Leave it out to fail on damaged files.")
    most = {"max_count": spec.max_damaged_files} if spec.HasField("max_damaged_files") else {}
    return DamagedFiles(skip=policy == "SKIP", **most)


def checkpoint(spec: our.DataSpec) -> Checkpoint | None:
    """Returns where finished units wait, or None if every run starts anew.

    Raises:
      SettingsError: what the checkpoint is like is said, but not where it is, or the number of days
        is less than 0.
    """
    days = {"max_age_days": spec.checkpoint_days} if spec.HasField("checkpoint_days") else {}
    if spec.checkpoint_dir:
        return Checkpoint(spec.checkpoint_dir, keep=spec.keep_checkpoint, **days)
    if spec.keep_checkpoint or days:
        given = "keep_checkpoint" if spec.keep_checkpoint else "checkpoint_days"
        raise SettingsError(
            f"DataSpec.{given} needs a folder for the checkpoint. Name one in "
            f"DataSpec.checkpoint_dir."
        )
    return None


def compression(spec: our.DataSpec) -> str:
    """Returns the compression of PredictionLogs.

    Raises:
      SettingsError: there is none with this number.
    """
    return name_of(spec, "compression", "Leave it out for gzip.")


def logs(spec: our.DataSpec) -> dict[str, Any]:
    """Returns the fields of `Outputs` that are about PredictionLogs; what is not said is left out.

    Compression is a setting of its own.
    """
    return {
        name: getattr(spec, name)
        for name in ("prediction_logs", "records_in_logs")
        if spec.HasField(name)
    }


def has_report(spec: our.DataSpec) -> bool:
    """Returns whether there is to be a report."""
    return spec.report if spec.HasField("report") else True


def view(spec: our.DataSpec) -> dict[str, Any]:
    """Returns the fields of `InferenceJob` that say which columns of a table models see.

    Raises:
      SettingsError: they contradict each other.
    """
    columns, rename = tuple(spec.columns), dict(spec.rename)
    check_tuple("DataSpec.columns", columns, str)
    column_view(columns, rename)
    if not spec.vectors:
        return {"columns": columns, "rename": rename}
    if unknown := sorted(rename.keys() - set(columns)):
        raise SettingsError(
            f"DataSpec.rename names the column '{unknown[0]}', but with DataSpec.vectors, the "
            f"model sees only the columns that are named. Add it to DataSpec.columns."
        )
    inputs: dict[str, str | tuple[str, ...]] = {rename.get(name, name): name for name in columns}
    for name, own in spec.vectors.items():
        if name in inputs:
            raise SettingsError(
                f"DataSpec.vectors makes an input '{name}', and the column '{inputs[name]}' has "
                f"the same name for the model. Rename the column in DataSpec.rename."
            )
        if not own.columns:
            raise SettingsError(
                f"DataSpec.vectors['{name}'] names no column. Name those that become the vector."
            )
        inputs[name] = tuple(own.columns)
    column_view(inputs)
    return {"columns": inputs, "rename": {}}


def table(spec: our.TableSpec) -> TableSettings:
    """Returns what the table of predictions is like.

    Raises:
      SettingsError: there is no such format, or what it keeps contradicts itself.
    """
    if spec.keep_none and spec.keep:
        raise SettingsError(
            f"TableSpec.keep_none is true, but TableSpec.keep names {', '.join(spec.keep)}. Leave "
            f"out one of them."
        )
    format_ = name_of(spec, "format", "Leave it out for Parquet.").lower()
    keep = tuple(spec.keep) if spec.keep or spec.keep_none else None
    return TableSettings(format=format_, keep=keep, binary=tuple(spec.binary_columns))


def expectations(spec: our.Expectations) -> Expectations:
    """Returns what is expected of the predictions of a model.

    Raises:
      SettingsError: a bound is out of its range, or two contradict each other.
    """
    return expectations_of(json_format.MessageToDict(spec, preserving_proto_field_name=True))


def given_fields(message: Message) -> dict[str, Any]:
    """Returns the fields that are set by name; the others keep the defaults of a dataclass."""
    return {field.name: value for field, value in message.ListFields()}


def name_of(message: Message, field: str, advice: str) -> str:
    """Returns the name of an enum's value; protos take any number, also from JSON."""
    number = getattr(message, field)
    enum: Any = message.DESCRIPTOR.fields_by_name[field].enum_type
    if number not in enum.values_by_number:
        known = ", ".join(f"{value.name} ({value.number})" for value in enum.values)
        raise SettingsError(
            f"{message.DESCRIPTOR.name}.{field} must be one of {known}, not {number}. {advice}"
        )
    return str(enum.values_by_number[number].name)
