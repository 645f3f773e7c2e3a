from __future__ import annotations

import pytest

from bulk_inferencer._formats.table_settings import TableSettings
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly


def test_lists_of_names_become_tuples():
    settings = TableSettings("csv", keep=["id"], binary=["image"])
    assert settings == TableSettings("csv", ("id",), ("image",))
    assert TableSettings(keep=[]).keep == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"format": "xlsx"},
            (
                "TableSettings.format must be one of parquet, csv, json_lines, not 'xlsx'. Leave "
                "it out for parquet."
            ),
        ),
        (
            {"keep": "id"},
            "TableSettings.keep must be a tuple of names, not 'id'. Write ('id',).",
        ),
        (
            {"binary": ["y", "y"]},
            "TableSettings.binary names y more than once. Name it once.",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        TableSettings(**settings)
