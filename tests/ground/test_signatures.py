from __future__ import annotations

import pytest
import tensorflow as tf

from bulk_inferencer import _signatures
from bulk_inferencer._signatures import (
    CLASSIFY,
    PREDICT,
    REGRESS,
    OutputType,
    Signature,
    common_type,
    multi_inference,
    output_names,
    output_prefix,
    output_types,
)

P, C, R = (
    Signature("p", PREDICT, ("y",)),
    Signature("c", CLASSIFY, ("s", "t")),
    Signature("r", REGRESS),
)


def test_only_outputs_of_several_signatures_have_a_prefix():
    assert output_prefix(P, [P]) == ""
    assert [output_prefix(s, [P, C]) for s in (P, C)] == ["p/", "c/"]


def test_names_of_outputs_are_known_if_every_signature_names_its_own():
    assert output_names([C]) == ("s", "t")
    assert output_names([P, C]) == ("p/y", "c/s", "c/t")
    assert output_names([P, R]) == ()


FLOAT, TEXT = OutputType("float32", (3,)), OutputType("string", ())


def test_types_of_outputs_are_known_if_every_signature_tells_them():
    typed_p, typed_c = P._replace(types=(FLOAT,)), C._replace(types=(FLOAT, TEXT))
    assert output_types([typed_p, typed_c]) == {"p/y": FLOAT, "c/s": FLOAT, "c/t": TEXT}
    assert output_types([typed_c]) == {"s": FLOAT, "t": TEXT}
    for signatures in ([P], [typed_p, C], [typed_p, R]):
        assert output_types(signatures) == {}


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(3,)], (3,)),
        ([(), ()], ()),
        ([(3, 2), (3, 4)], (3, None)),
        ([(3, None), (3, 4)], (3, None)),
        ([(3,), (3, 1)], None),
        ([(3,), None], None),
    ],
)
def test_common_type_leaves_open_what_differs_in_shape(shapes, expected):
    types = [OutputType("int64", shape) for shape in shapes]
    assert common_type(types) == OutputType("int64", expected)
    assert common_type([*types, TEXT]) is None


@pytest.mark.parametrize(
    ("heads", "expected"),
    [([C], False), ([C, R], True), ([C, C], True), ([P], False), ([P, C], False), ([P, P], False)],
)
def test_only_several_classifications_and_regressions_are_a_multi_inference(heads, expected):
    assert multi_inference(heads) is expected


def test_names_of_outputs_are_those_of_tensorflow():
    assert _signatures.CLASSES_OUTPUT == tf.saved_model.CLASSIFY_OUTPUT_CLASSES
    assert _signatures.SCORES_OUTPUT == tf.saved_model.CLASSIFY_OUTPUT_SCORES
    assert _signatures.REGRESS_OUTPUT == tf.saved_model.REGRESS_OUTPUTS
