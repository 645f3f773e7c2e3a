"""One call: a model, inputs in, a folder of results out."""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from bulk_inferencer import _files, results
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.detect import format_of
from bulk_inferencer._formats.input_format import InputFormat
from bulk_inferencer._formats.parquet import Parquet
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._formats.table_settings import TableSettings
from bulk_inferencer._formats.tfrecord_reader import TFRecord
from bulk_inferencer._gate import UNASKED, Decision
from bulk_inferencer._layout import GZIP, INFERENCE_RESULT
from bulk_inferencer._models import recognition
from bulk_inferencer._models.hooks import HookedModel, Postprocess, Preprocess
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.python_model import Given, PythonModel
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._progress import Progress
from bulk_inferencer._run import engine_or_default, run
from bulk_inferencer._units.damaged_files import DamagedFiles
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.inputs import list_files
from bulk_inferencer.engines.engine import Engine
from bulk_inferencer.errors import FolderInUseError, SettingsError
from bulk_inferencer.job import Branch, InferenceJob, Outputs

if TYPE_CHECKING:
    import pandas as pd

    from bulk_inferencer.results import Results
    from bulk_inferencer.results.expectations import Expectations

Path: TypeAlias = str | os.PathLike[str]
Inputs: TypeAlias = (
    "Path | Sequence[Path] | Mapping[str, Path | Sequence[Path]] | pd.DataFrame | pa.Table"
)

_SPLIT = "inputs"
# Where a table that is in memory lies during the run.
_TABLES_FOLDER = ".inputs"
_ROWS_PER_GROUP = 128 << 10
_SOME_TIME = 1  # of a file whose content is in its name


def predict(
    model: Model | Path | Callable[..., Any],
    inputs: Inputs,
    output: Path,
    *,
    keep: Sequence[str] | None = None,
    columns: Sequence[str] | Mapping[str, str | Sequence[str]] = (),
    rename: Mapping[str, str] | None = None,
    input_format: InputFormat | str | None = None,
    table: str | TableSettings | None = "parquet",
    prediction_logs: bool | None = None,
    signatures: Sequence[str] = (),
    preprocess: Preprocess | str | None = None,
    postprocess: Postprocess | str | None = None,
    gate: Decision = UNASKED,
    expectations: Expectations | None = None,
    baseline: Path = "",
    record_format: str = FORMAT_TF_EXAMPLE,
    bounds: BatchBounds | None = None,
    failure_limit: FailureLimit | None = None,
    damaged_files: DamagedFiles | None = None,
    compression: str = GZIP,
    limit: int | None = None,
    modules: Sequence[str] = (),
    engine: Engine | None = None,
    restart: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Results:
    """Scores files or a table with a model, and writes the predictions into a folder.

    ```python
    result = predict("models/five_times", "data/*.parquet", output="results", keep=["id"])
    result.to_pandas()
    ```

    It builds an `InferenceJob` and runs it: all results are committed or none, the same call again
    returns the results that are there, and a call that was interrupted goes on where it stopped.
    Rows of several files, or of a large one, may change their order: keep a column that tells them
    apart.

    Args:
      model: the folder of a SavedModel; a model such as `SavedModel`, `TFServing` or
        `PythonModel`; or a function from a dict of arrays by feature to a dict of arrays by output.
      inputs: a path, a folder (all files in it), a pattern, a list of these, or one of these for
        each split by its name; or a pandas DataFrame or an Arrow table.
      output: the folder for the results.
      keep: the columns or features that the table carries beside the predictions. Default: all that
        have a single value per record. `()` keeps none.
      columns: of tables, the columns that the model sees; or, for each of its inputs, the column
        that it takes, or a list of columns that become one vector. Default: all columns.
      rename: of tables, the names under which the model sees columns, by column.
      input_format: `TFRecord`, `Parquet`, `CSV`, `JSONLines` or `WholeFiles`, or its name. Default:
        as the files' content and names say.
      table: the format of the predictions as a table: `parquet`, `csv` or `json_lines`; or
        `TableSettings`; or None for no table.
      prediction_logs: whether to write PredictionLogs as well. Default: only if the inputs are
        TFRecord files, or if there is no table.
      signatures: the signatures of a SavedModel to call. Default: `serving_default`.
      preprocess: see `HookedModel`.
      postprocess: see `HookedModel`.
      gate: whether the model may run.
      expectations: what the predictions must be like. `summary.branches["inference_result"]` then
        says in `checks` and `meets_expectations` whether they are; see `Branch`.
      baseline: a folder of earlier results, for `OutputExpectations.max_drift`.
      record_format: see `InferenceJob`.
      bounds: bounds of a batch.
      failure_limit: how many records may fail.
      damaged_files: what to do about input files that are damaged.
      compression: of PredictionLogs: `GZIP` or `NONE`.
      limit: most records of each split to score, in the order of the files; for a trial. Default:
        all of them.
      modules: Python files or wheels with the functions that the model is made of; see
        `InferenceJob`.
      engine: what spreads the work over workers; see `run`.
      restart: see `run`.
      progress: is called with how far the run is; see `run`.

    Returns:
      The results, as `results.read(output)` returns them.

    Raises:
      BulkInferencerError: see `run`.
    """
    folder = _files.as_path("predict's output", output)
    if not folder:
        raise SettingsError("The output of predict is empty text. Use '.' for this folder.")
    engine = engine_or_default(engine)
    own_model = _model(model, signatures)
    if preprocess or postprocess:
        own_model = HookedModel(own_model, preprocess, postprocess)
    settings = _table_settings(table, keep)
    with _splits(inputs, folder) as (splits, in_memory):
        own_format = Parquet(partitions=False) if in_memory else input_format
        if own_format is None and gate.is_open:
            own_format = _format_of(splits, engine)
        if prediction_logs is None:
            prediction_logs = settings is None or own_format in ("tfrecord", TFRecord())
        outputs = Outputs.under(
            folder,
            compression,
            table=settings is not None,
            table_settings=settings or TableSettings(),
            prediction_logs=prediction_logs,
        )
        job = InferenceJob(
            splits=splits,
            branches=[
                Branch(
                    INFERENCE_RESULT,
                    own_model,
                    outputs.inference_result,
                    gate,
                    expectations,
                    _files.as_path("predict's baseline", baseline),
                )
            ],
            outputs=outputs,
            input_format=own_format,
            columns=columns,
            rename=rename or {},
            record_format=record_format,
            bounds=bounds or BatchBounds(),
            failure_limit=failure_limit or FailureLimit(),
            damaged_files=damaged_files or DamagedFiles(),
            limit=limit,
            modules=modules,
        )
        run(job, engine, restart=restart, progress=progress)
    return results.read(folder)


def _model(model: Any, signatures: Sequence[str]) -> Model:
    if isinstance(model, (str, os.PathLike)):
        return SavedModel(os.fspath(model), signatures=tuple(signatures))
    if signatures:
        raise SettingsError(
            f"The signatures {', '.join(signatures)} belong to the path of a SavedModel, but the "
            f"model is an object. Name them in the object."
        )
    is_function = callable(model) and not isinstance(model, type)
    if is_function and not recognition.about_object(model):
        return PythonModel(Given(model))
    return model  # which the job checks


def _table_settings(
    table: str | TableSettings | None, keep: Sequence[str] | None
) -> TableSettings | None:
    if isinstance(keep, str):
        raise SettingsError(f"keep must be a list of names, not {keep!r}. Write [{keep!r}].")
    if isinstance(table, TableSettings):
        if keep is not None:
            raise SettingsError("Both keep and TableSettings.keep are given. Leave out keep.")
        return table
    if table is None:
        if keep is not None:
            raise SettingsError("keep names what a table carries, but there is none. Leave it out.")
        return None
    return TableSettings(table, None if keep is None else tuple(keep))


@contextlib.contextmanager
def _splits(inputs: Any, output: str) -> Iterator[tuple[dict[str, list[str]], bool]]:
    """Returns the patterns of each split, and whether the inputs were a table in memory."""
    table = _as_table(inputs)
    if table is None:
        yield _patterns_of(inputs), False
        return
    is_new = not _files.exists(output)
    path = _written(table, posixpath.join(output, _TABLES_FOLDER))
    try:
        yield {_SPLIT: [_files.literal(path)]}, True
    except FolderInUseError:  # Whoever uses it may be reading the same table.
        raise
    except BaseException:
        _remove(path, output if is_new else posixpath.dirname(path))
        raise
    _remove(path, posixpath.dirname(path))


def _remove(path: str, folder: str) -> None:
    _files.delete(path)
    _files.delete_empty_folder(folder)


def _as_table(inputs: Any) -> pa.Table | None:
    if isinstance(inputs, pa.RecordBatch):
        return pa.Table.from_batches([inputs])
    if isinstance(inputs, pa.Table):
        return inputs
    # Without importing pandas where nobody has.
    if type(inputs).__module__.partition(".")[0] == "pandas" and hasattr(inputs, "columns"):
        return _of_frame(inputs)
    return None


def _of_frame(frame: pd.DataFrame) -> pa.Table:
    has_index = any(name is not None for name in frame.index.names)
    try:
        return pa.Table.from_pandas(frame, preserve_index=has_index)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SettingsError(
            f"The DataFrame has a column that is not of one type: {error}. Convert it, for example "
            f"with astype(str)."
        ) from error
    except ValueError as error:  # two columns of one name
        raise SettingsError(f"The DataFrame cannot become a table: {error}. Rename it.") from error


def _written(table: pa.Table, folder: str) -> str:
    """Writes a table, and returns the file; the same table is the same file each time."""
    import pyarrow.parquet as pq

    halves = [own.name for own in table.schema if pa.types.is_float16(own.type)]
    for name in halves:  # which Parquet does not have
        index = table.column_names.index(name)
        floats = pa.array(table[name].to_numpy().astype(np.float32), from_pandas=True)
        table = table.set_column(index, name, floats)
    stream = pa.BufferOutputStream()
    try:
        pq.write_table(table, stream, row_group_size=_ROWS_PER_GROUP, version="2.6")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise SettingsError(
            f"The table has a column of a type that Parquet does not have: {error}. Convert it, or "
            f"leave it out."
        ) from error
    content = stream.getvalue()
    path = posixpath.join(folder, f"{hashlib.sha256(content).hexdigest()[:16]}.parquet")
    if _files.exists(path):  # of a run that did not end, or that goes on at this moment
        return path
    _files.make_folder(folder)
    _files.replace(path, content)
    if _files.is_local(path):
        os.utime(path, (_SOME_TIME, _SOME_TIME))
    return path


def _patterns_of(inputs: Any) -> dict[str, list[str]]:
    by_split = inputs if isinstance(inputs, Mapping) else {_SPLIT: inputs}
    return {split: _listed(split, own) for split, own in by_split.items()}


def _listed(split: str, inputs: Any) -> list[str]:
    if isinstance(inputs, (str, os.PathLike)):
        return [os.fspath(inputs)]
    paths = list(inputs) if isinstance(inputs, Sequence) else [inputs]
    if others := [path for path in paths if not isinstance(path, (str, os.PathLike))]:
        raise SettingsError(
            f"predict's inputs must be a path, a list of paths, these by split, a pandas DataFrame "
            f"or an Arrow table, but there is an object of type {type(others[0]).__name__}. Make a "
            f"table of values, such as pandas.DataFrame({{'x': [1.0, 2.0]}})."
        )
    return [os.fspath(path) for path in paths]


def _format_of(splits: Mapping[str, Sequence[str]], engine: Engine) -> InputFormat:
    engine.open_filesystems([p for own in splits.values() for p in own])
    return format_of([f for split, own in splits.items() for f in list_files(split, own)])
