from __future__ import annotations

import pytest

from bulk_inferencer.errors import InputError, ModelError, prefix_errors
from tests.helpers import exactly


@pytest.mark.parametrize(
    ("prefix", "message", "expected"),
    [
        ("Model 'five'", "no such output", "Model 'five': no such output"),
        ("Model 'five'", "Model 'five': no such output", "Model 'five': no such output"),
        ("", "no such output", "no such output"),
    ],
)
def test_prefix_begins_a_message_once(prefix, message, expected):
    with pytest.raises(ModelError, match=exactly(expected)), prefix_errors(prefix):
        raise ModelError(message)


def test_prefixed_error_keeps_its_type_and_cause_and_errors_of_others_get_no_prefix():
    cause = InputError("damaged")
    with pytest.raises(InputError) as raised, prefix_errors("Split 'a'"):
        raise cause
    assert raised.value.__cause__ is cause
    with pytest.raises(ValueError, match=exactly("theirs")), prefix_errors("Split 'a'"):
        raise ValueError("theirs")
