from __future__ import annotations

import pytest
import tensorflow as tf

from bulk_inferencer import _signatures
from bulk_inferencer._signatures import (
    CLASSIFY,
    PREDICT,
    REGRESS,
    Signature,
    multi_inference,
    output_names,
    output_prefix,
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
