"""Marker files of blessings."""

from __future__ import annotations

import pytest

from bulk_inferencer._gate import INFRA_BLESSING, MODEL_BLESSING, UNASKED
from bulk_inferencer._markers import decision_of, marked
from bulk_inferencer.errors import SettingsError


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["BLESSED"], True),
        (["NOT_BLESSED"], False),
        (["BLESSED", "NOT_BLESSED"], False),
        (["INFRA_BLESSED"], None),
        ([], None),
    ],
)
def test_marker_of_a_kind_says_whether_a_model_is_blessed(tmp_path, names, expected):
    for name in names:
        (tmp_path / name).touch()
    assert marked(MODEL_BLESSING, str(tmp_path)) is expected
    assert marked(INFRA_BLESSING, str(tmp_path)) is (True if "INFRA_BLESSED" in names else None)


def test_every_folder_must_bless_the_model(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/BLESSED").touch()
    (tmp_path / "b").mkdir()
    folders = [str(tmp_path / name) for name in "ab"]
    assert decision_of(folders[:1]).verdict == "blessed"
    assert decision_of(folders).verdict == "not_blessed"
    (tmp_path / "b/INFRA_BLESSED").touch()
    decision = decision_of(folders)
    assert (decision.verdict, decision.reason) == (
        "blessed",
        " ".join(f"The blessing in {own} says that the model is blessed." for own in folders),
    )
    assert decision_of([]) == UNASKED


def test_folder_that_is_not_there_is_no_refusal(tmp_path):
    with pytest.raises(SettingsError, match=r"^There is no folder .*/gone with a blessing\."):
        decision_of([f"{tmp_path}/gone"])
