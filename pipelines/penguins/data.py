"""Splits the Palmer penguins into labelled birds to learn from and birds without their species."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# The label, what the model uses, and `bird`, which tells one prediction from another.
KEY = "bird"
LABEL = "species"
FEATURES = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
# The lowest accuracy that passes: for Evaluator, on labelled birds, and on those held back.
MIN_ACCURACY = 0.9


@dataclass(frozen=True)
class Data:
    """Where the examples lie, and the labels that were held back.

    Attributes:
      data_root: folder with the labelled birds.
      inference_data_root: folder with the birds whose species was held back.
      species: from `bird` to the species that was held back.
    """

    data_root: str
    inference_data_root: str
    species: dict[str, str]

    @property
    def records(self) -> int:
        """Number of birds without a label."""
        return len(self.species)


def make_data(folder: str, *, held_back: int = 100, seed: int = 5) -> Data:
    """Writes `folder/labelled/data.csv` and, without species, `folder/unlabelled/data.csv`.

    Args:
      folder: where to write; created if missing.
      held_back: number of birds whose species is held back; the others are for training.
      seed: seed of the shuffle before the split.
    """
    birds = read_birds().sample(frac=1, random_state=seed)
    hidden, known = birds[:held_back], birds[held_back:]

    data = Data(
        data_root=os.path.join(folder, "labelled"),
        inference_data_root=os.path.join(folder, "unlabelled"),
        species=dict(zip(hidden[KEY], hidden[LABEL], strict=True)),
    )
    _write_csv(known, data.data_root)
    _write_csv(hidden.drop(columns=LABEL), data.inference_data_root)
    return data


def read_birds() -> pd.DataFrame:
    """Returns the birds that were measured in full, each with a name in the column `bird`."""
    from palmerpenguins import load_penguins  # Here: only who makes the data needs to have it.

    birds = load_penguins().dropna().reset_index(drop=True)
    birds[KEY] = [f"bird_{i:03d}" for i in birds.index]
    # Floats always print with a decimal point. That matters: CsvExampleGen takes a column of
    # whole numbers for integers, and the model for one of another type.
    return birds[[KEY, *FEATURES, LABEL]].astype(dict.fromkeys(FEATURES, "float64"))


def _write_csv(birds: pd.DataFrame, folder: str) -> None:
    os.makedirs(folder, exist_ok=True)
    birds.to_csv(os.path.join(folder, "data.csv"), index=False, lineterminator="\n")
