"""Where the results of a run go, and which of them are written."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from bulk_inferencer._formats.example import Column
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results.compare import Comparing

WORK_FOLDER = ".work"

# Compressions of inference_result. Examples are always gzip: TFX reads them as nothing else.
GZIP = "GZIP"
NONE = "NONE"
_COMPRESSIONS = (GZIP, NONE)

# The feature of output examples that says which model a record went to.
VARIANT = "variant"


@dataclass(frozen=True)
class Outputs:
    """Where results go, and which.

    Attributes:
      inference_result: folder of the PredictionLogs; with several models, a folder for each name.
      summary: folder of the summary and of the lists of failures.
      failed_examples: folder of the records that could not be scored, by split.
      output_examples: folder of the records with predictions as features, by split; optional.
      columns: the outputs that become features of the output examples. Where every record goes to
        several models, they stand there for each of them as `<model>/<column>`, and where it goes
        to one, beside its name in the feature `variant`.
      replace_features: whether a column may take the place of an input feature.
      compression: of the PredictionLogs: `GZIP` or `NONE`.
      comparison: folder of what several models' outputs have in common; optional.
      comparing: what of that is kept.

    Raises:
      SettingsError: there is no such compression.
    """

    inference_result: str | Mapping[str, str]
    summary: str
    failed_examples: str
    output_examples: str | None = None
    columns: tuple[Column, ...] = ()
    replace_features: bool = False
    compression: str = GZIP
    comparison: str | None = None
    comparing: Comparing = field(default_factory=Comparing)

    def __post_init__(self) -> None:
        if self.compression not in _COMPRESSIONS:
            raise SettingsError(
                f"Expected one of {', '.join(_COMPRESSIONS)} as Outputs.compression, got "
                f"{self.compression!r}. Leave it out for {GZIP}."
            )

    @classmethod
    def under(cls, folder: str, compression: str = GZIP) -> Outputs:
        """Returns outputs in folders of their own names below `folder`, without examples."""
        return cls(
            compression=compression,
            inference_result=posixpath.join(folder, "inference_result"),
            summary=posixpath.join(folder, "summary"),
            failed_examples=posixpath.join(folder, "failed_examples"),
        )

    @property
    def results(self) -> Mapping[str, str]:
        """The folders of PredictionLogs by model; the name of the only one is empty."""
        if isinstance(self.inference_result, str):
            return {"": self.inference_result}
        return self.inference_result

    @property
    def folders(self) -> tuple[str, ...]:
        """All folders that are written to."""
        optional = (self.output_examples, self.comparison)
        always = (*self.results.values(), self.summary, self.failed_examples)
        return (*always, *(folder for folder in optional if folder))
