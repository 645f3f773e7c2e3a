"""The formats that a record may have, named as in TFX's example_gen.proto."""

from __future__ import annotations

from bulk_inferencer.errors import SettingsError

FORMAT_TF_EXAMPLE = "FORMAT_TF_EXAMPLE"
FORMAT_TF_SEQUENCE_EXAMPLE = "FORMAT_TF_SEQUENCE_EXAMPLE"
FORMAT_PROTO = "FORMAT_PROTO"
RECORD_FORMATS = (FORMAT_TF_EXAMPLE, FORMAT_TF_SEQUENCE_EXAMPLE, FORMAT_PROTO)


def check_has_features(record_format: str, field: str, advice: str) -> None:
    """Raises SettingsError if records have no features, which the setting in `field` needs."""
    if record_format == FORMAT_PROTO:
        raise SettingsError(
            f"{field} needs records with features: {FORMAT_TF_EXAMPLE} or "
            f"{FORMAT_TF_SEQUENCE_EXAMPLE}, not {FORMAT_PROTO}. {advice}"
        )
