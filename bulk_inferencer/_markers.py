"""What the marker files say that Evaluator and InfraValidator leave in a folder."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from bulk_inferencer import _files
from bulk_inferencer._gate import BLESSED, MARKERS, NOT_BLESSED, UNASKED, Decision
from bulk_inferencer.errors import SettingsError


def marked(kind: str, folder: str) -> bool | None:
    """Returns whether a folder's marker of a kind blesses a model; None if it holds none."""
    blessed, not_blessed = MARKERS[kind]
    if _files.exists(posixpath.join(folder, not_blessed)):
        return False
    return True if _files.exists(posixpath.join(folder, blessed)) else None


def decision_of(folders: Sequence[str]) -> Decision:
    """Decides about a model that stands beside the folders of its blessings.

    The markers do not say which model they are for, so whoever names both must know. It is blessed
    if each folder blesses it, and nobody was asked if there is no folder.

    Raises:
      SettingsError: a folder does not exist.
    """
    reasons = []
    for folder in folders:
        if not _files.exists(folder):
            raise SettingsError(f"There is no folder {folder} with a blessing. Correct the path.")
        found = {own for kind in MARKERS if (own := marked(kind, folder)) is not None}
        if not found:
            every = " nor ".join(name for names in MARKERS.values() for name in names)
            return Decision(
                NOT_BLESSED,
                f"The blessing in {folder} does not say whether the model is blessed: there is "
                f"neither {every}. Check the component that wrote it; an Evaluator without "
                f"thresholds validates nothing.",
            )
        if False in found:
            return Decision(
                NOT_BLESSED, f"The blessing in {folder} says that the model is not blessed."
            )
        reasons.append(f"The blessing in {folder} says that the model is blessed.")
    return Decision(BLESSED, " ".join(reasons)) if reasons else UNASKED
