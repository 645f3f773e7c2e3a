"""Which results of a run are read, and the rows that they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from bulk_inferencer._formats.table_schema import failure_columns, schema_from_text
from bulk_inferencer._layout import INFERENCE_RESULT, PARQUET, names_models, table_format_of
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results.failures import fail_alike, failure_tables
from bulk_inferencer.results.log_rows import LogRows
from bulk_inferencer.results.places import Place, nothing_found, shown
from bulk_inferencer.results.reader import check_has_ended
from bulk_inferencer.results.shards import (
    Shard,
    check_counts,
    check_names,
    log_shards,
    table_shards,
)
from bulk_inferencer.results.summary import BranchSummary, Counts
from bulk_inferencer.results.table_rows import ModelRows, TableRows, table_rows


@dataclass(frozen=True)
class Selection:
    """The results at a place, or a part of them.

    Attributes:
      place: where they are.
      split: the only split; None for all.
      models: the models.
      is_one_model: whether one of them was asked for, so that outputs do not carry its name.
      allow_partial: whether files may be missing.
    """

    place: Place
    split: str | None
    models: tuple[str, ...]
    is_one_model: bool = False
    allow_partial: bool = False

    @property
    def branches(self) -> Mapping[str, BranchSummary]:
        """What each model of the run did, as far as the run says."""
        return self.place.summary.branches if self.place.summary else {}

    @property
    def open_models(self) -> list[str]:
        """Those of the models that were allowed to run."""
        return [m for m in self.models if m not in self.branches or self.branches[m].gate.is_open]

    @cached_property
    def all_splits(self) -> tuple[str, ...]:
        """The splits of the run."""
        if self.place.summary:
            return tuple(dict.fromkeys(s for own in self.branches.values() for s in own.splits))
        folders = [*map(log_shards, self.place.logs.values())]
        folders += [table_shards(self.place.table)] if self.place.table else []
        return tuple(dict.fromkeys(own.split for found in folders for own in found if own.split))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are read."""
        return tuple(own for own in self.all_splits if self.split in (None, own))

    @property
    def has_split(self) -> bool:
        """Whether rows say which split they are of."""
        return len(self.all_splits) > 1

    @property
    def is_ab_test(self) -> bool:
        """Whether each record went to one of the models."""
        return bool(self.place.summary and self.place.summary.routing == "split")

    @property
    def files(self) -> list[Shard]:
        """The files of the PredictionLogs, or of the table where there are none."""
        logs = [shard for shards in self._logs().values() for shard in shards]
        return logs or (table_shards(self.place.table, self.split) if self.place.table else [])

    @property
    def has_logs(self) -> bool:
        """Whether there are PredictionLogs."""
        return any(self._logs().values())

    @property
    def total(self) -> Counts:
        """Records and files, as the summary says."""
        return sum(self._all_counts(), Counts())

    @property
    def unrouted(self) -> dict[str, int]:
        """Records by split that reached no model, if all models are read: they are of none."""
        if self.place.summary is None or len(self.models) < len(self.branches):
            return {}
        found = self.place.summary.unrouted
        return {split: found[split] for split in self.splits if found.get(split)}

    @property
    def failure_schema(self) -> pa.Schema:
        """The columns of the failures."""
        return failure_columns(self.has_split, bool(self.branches) and names_models(self.branches))

    def failure_tables(self, rows: int, split: str | None = None) -> Iterator[pa.Table]:
        """Yields the failures, of all splits or of one, in tables of at most so many rows."""
        splits = [own for own in self.splits if split in (None, own)] if self.branches else []
        folder = self.place.summary_folder
        return failure_tables(folder, splits, self.models, self.failure_schema, rows)

    def _all_counts(self) -> Iterator[Counts]:
        return (counts for model in self.models for counts in self.counts_of(model).values())

    def counts_of(self, model: str) -> dict[str, Counts]:
        """Returns the counts of a model by split."""
        own = self.branches[model].splits if model in self.branches else {}
        return {split: counts for split, counts in own.items() if self.split in (None, split)}

    @property
    def count(self) -> int | None:
        """How many rows there are; None if only reading them tells."""
        if not self.open_models:
            return 0
        if self.allow_partial or not self.branches:
            return None
        if len(self.open_models) == 1 or self.is_ab_test:
            return self.total.predictions_written
        if all(self._same_records(split) for split in self.splits):
            return sum(c.predictions_written for c in self.counts_of(self.open_models[0]).values())
        return None

    def rows(self) -> LogRows | TableRows | None:
        """Returns the rows; None if no model was allowed to run.

        Raises:
          InputError: there are none, or they are not complete.
        """
        place = self.place
        if not self.open_models:
            return None
        logs = self._logs()
        table = table_shards(place.table, self.split) if place.table else []
        is_parquet = {table_format_of(shard.path) for shard in table} == {PARQUET}
        if not table and self._schema and not any(c.shards for c in self._all_counts()):
            return table_rows([], self._schema)  # Nothing was there to be scored.
        if table and (is_parquet or place.is_table or not any(logs.values())):
            assert place.table
            self._check(place.table, table, self.open_models, check_bytes=not any(logs.values()))
            rows = table_rows(table, self._schema)
            if not self.is_one_model or not names_models(self.branches):
                return rows
            others = [name for name in self.branches if name not in self.models]
            return ModelRows(rows, self.models[0], others, self.is_ab_test)
        return self.log_rows(logs)

    def log_rows(self, logs: Mapping[str, Sequence[Shard]] | None = None) -> LogRows:
        """Returns the rows of the PredictionLogs.

        Raises:
          InputError: there are none, or they are not complete.
        """
        logs = self._logs() if logs is None else logs
        if self.place.table and not any(logs.values()):
            raise InputError(
                f"There are no PredictionLogs in {shown(self.place.name)}, only a table. Iterate "
                f"over the results, or use batches, for its rows."
            )
        for model, shards in logs.items():
            self._check(self.place.logs[model], shards, [model])
        if not any(logs.values()):
            raise nothing_found(self.place.name, self.split)
        units: dict[tuple[str, int, int], dict[str, Shard | None]] = {}
        for model, shards in logs.items():
            for shard in shards:
                key = (shard.split, shard.count, shard.index)
                units.setdefault(key, dict.fromkeys(logs))[model] = shard
        are_named = names_models(self.models) if self.branches else len(self.models) > 1
        has_prefix = are_named and not (self.is_one_model or self.is_ab_test)
        return LogRows(
            units=[(key[0], units[key]) for key in sorted(units)],
            is_alike={split: self._same_records(split) for split in self.splits},
            prefixes={model: f"{model}/" if has_prefix else "" for model in logs},
            is_ab_test=self.is_ab_test,
            has_split=self.has_split,
        )

    @property
    def _schema(self) -> pa.Schema | None:
        """The columns of the table, if the summary tells them."""
        text = self.place.summary.table_schema if self.place.summary else ""
        return schema_from_text(text) if text else None

    def _logs(self) -> dict[str, list[Shard]]:
        folders = self.place.logs
        return {m: log_shards(folders[m], self.split) for m in self.open_models if m in folders}

    def _check(
        self, folder: str, shards: Sequence[Shard], models: Sequence[str], check_bytes: bool = True
    ) -> None:
        if self.allow_partial:
            return
        check_names(folder, shards)
        for model in models:
            check_counts(folder, shards, self.counts_of(model), check_bytes)
        if not self.branches:
            check_has_ended(folder)

    def _same_records(self, split: str) -> bool:
        """Returns whether all models are known to have scored the same records of a split."""
        if self.allow_partial or not self.branches:
            return False
        found = [self.branches[model].splits.get(split, Counts()) for model in self.open_models]
        if len({(own.predictions_written, own.examples_failed) for own in found}) > 1:
            return False
        has_failures = any(own.examples_failed for own in found)
        return not has_failures or fail_alike(self.place.summary_folder, split, self.open_models)


def select(
    place: Place, split: str | None, model: str | None, allow_partial: bool = False
) -> Selection:
    """Returns those of the results at a place that are asked for.

    Raises:
      InputError: there is no such split.
      SettingsError: there is no such model.
    """
    names = tuple(place.summary.branches if place.summary else place.logs) or (INFERENCE_RESULT,)
    if model is not None and model not in names:
        raise SettingsError(
            f"There is no model '{model}' in {shown(place.name)}, only {', '.join(names)}. Correct "
            f"model."
        )
    model = model or place.model
    selection = Selection(place, split, (model,) if model else names, bool(model), allow_partial)
    if split is not None and selection.open_models and split not in selection.all_splits:
        splits = ", ".join(selection.all_splits)
        known = f"Its splits are {splits}." if splits else "Its files name no splits."
        where = shown(place.name)
        raise InputError(f"There is no split '{split}' in {where}. {known} Correct split.")
    return selection
