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
    output_prefix,
)

P, C, R = Signature("p", PREDICT), Signature("c", CLASSIFY), Signature("r", REGRESS)


def test_outputs_of_one_signature_have_no_prefix():
    assert output_prefix(P, [P]) == ""


def test_outputs_of_several_signatures_are_told_apart_by_their_names():
    assert [output_prefix(s, [P, C]) for s in (P, C)] == ["p/", "c/"]


@pytest.mark.parametrize(
    ("heads", "expected"),
    [([C], False), ([C, R], True), ([C, C], True), ([P], False), ([P, C], False), ([P, P], False)],
)
def test_only_several_classifications_and_regressions_are_a_multi_inference(heads, expected):
    assert multi_inference(heads) is expected


def test_names_of_outputs_are_those_of_tensorflow():
    assert signatures.CLASSES_OUTPUT == tf.saved_model.CLASSIFY_OUTPUT_CLASSES
    assert signatures.SCORES_OUTPUT == tf.saved_model.CLASSIFY_OUTPUT_SCORES
    assert _signatures.REGRESS_OUTPUT == tf.saved_model.REGRESS_OUTPUTS
