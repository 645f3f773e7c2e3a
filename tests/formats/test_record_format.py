from __future__ import annotations

import pytest

from bulk_inferencer._formats.record_format import RECORD_FORMATS, check_has_features
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly


def test_setting_that_needs_features_takes_no_opaque_records():
    message = (
        "Stage.columns needs records with features: FORMAT_TF_EXAMPLE or "
        "FORMAT_TF_SEQUENCE_EXAMPLE, not FORMAT_PROTO. Leave it out."
    )
    *with_features, opaque = RECORD_FORMATS
    with pytest.raises(SettingsError, match=exactly(message)):
        check_has_features(opaque, "Stage.columns", "Leave it out.")
    for record_format in with_features:
        check_has_features(record_format, "Stage.columns", "Leave it out.")
