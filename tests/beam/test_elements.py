from __future__ import annotations

import pytest
import tensorflow as tf

from bulk_inferencer.beam.elements import record_of, records_of
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly, example, sequence_example

EXAMPLE, SEQUENCE = example(x=1.0), sequence_example(x=2.0)
PROTOS = [tf.train.Example.FromString(EXAMPLE), tf.train.SequenceExample.FromString(SEQUENCE)]


@pytest.mark.parametrize(
    ("value", "serialized"),
    [(b"any", b"any"), *zip(PROTOS, [EXAMPLE, SEQUENCE], strict=True)],
    ids=["bytes", "Example", "SequenceExample"],
)
def test_record_is_serialized_alone_and_with_a_key(value, serialized):
    assert record_of(value) == serialized
    assert records_of(value) == serialized
    assert records_of((None, value)) == serialized
    for values in ([value, b""], iter([value, b""])):
        assert records_of(("k", values)) == [serialized, b""]
    assert records_of(("k", ())) == []


@pytest.mark.parametrize(
    ("element", "got"),
    [
        (1.5, "float"),
        (None, "NoneType"),
        ([b""], "list"),
        ((), "()"),
        (("k", 5), "(str, int)"),
        (("k", "l", b""), "(str, str, bytes)"),
        (("k",), "(str)"),
        (("k", [b"", "text"]), "str"),
    ],
    ids=str,
)
def test_other_element_is_refused(element, got):
    message = (
        f"Elements must be bytes, tf.train.Example or tf.train.SequenceExample, alone, as "
        f"(key, record) or as (key, [record, ...]), not {got}. Convert them with beam.Map."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        records_of(element)
