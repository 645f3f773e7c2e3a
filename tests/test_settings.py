"""Settings: from the protos that TFX carries to the dataclasses that everything else takes."""

from __future__ import annotations

import re

import pytest
from google.protobuf import json_format
from tfx import v1 as tfx
from tfx.proto import bulk_inferrer_pb2

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.batching import BatchBounds
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.components import settings
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.job import FailureLimit


def runtime_parameter(default=None):
    return tfx.dsl.experimental.RuntimeParameter("parameter", ptype=str, default=default)


def predict_columns(signature_name="", **columns):
    """One OutputColumnsSpec with `column=output`."""
    cols = [
        our.PredictOutputCol(output_key=output, output_column=column)
        for column, output in columns.items()
    ]
    predict = our.PredictOutput(output_columns=cols)
    return our.OutputColumnsSpec(signature_name=signature_name, predict_output=predict)


def columns(*entries, signatures=()):
    spec = our.OutputExampleSpec(output_columns_spec=entries)
    return settings.columns(spec, our.ModelSpec(model_signature_name=signatures))


# What an author gives


def test_nothing_stays_nothing():
    assert settings.to_setting("data_spec", None, our.DataSpec) is None


def test_our_message_is_taken_as_it_is():
    spec = our.DataSpec(example_splits=["a"])

    assert settings.to_setting("data_spec", spec, our.DataSpec) is spec


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            bulk_inferrer_pb2.DataSpec(example_splits=["a", "b"]),
            our.DataSpec(example_splits=["a", "b"]),
        ),
        (
            bulk_inferrer_pb2.ModelSpec(model_signature_name=["s"], tag=["serve", "gpu"]),
            our.ModelSpec(model_signature_name=["s"], tag=["serve", "gpu"]),
        ),
        (
            bulk_inferrer_pb2.OutputExampleSpec(
                output_columns_spec=[
                    bulk_inferrer_pb2.OutputColumnsSpec(
                        signature_name="c",
                        classify_output=bulk_inferrer_pb2.ClassifyOutput(
                            label_column="label", score_column="score"
                        ),
                    ),
                    bulk_inferrer_pb2.OutputColumnsSpec(
                        signature_name="r",
                        regress_output=bulk_inferrer_pb2.RegressOutput(value_column="value"),
                    ),
                    bulk_inferrer_pb2.OutputColumnsSpec(
                        signature_name="p",
                        predict_output=bulk_inferrer_pb2.PredictOutput(
                            output_columns=[
                                bulk_inferrer_pb2.PredictOutputCol(
                                    output_key="y", output_column="y5"
                                )
                            ]
                        ),
                    ),
                ]
            ),
            our.OutputExampleSpec(
                output_columns_spec=[
                    our.OutputColumnsSpec(
                        signature_name="c",
                        classify_output=our.ClassifyOutput(
                            label_column="label", score_column="score"
                        ),
                    ),
                    our.OutputColumnsSpec(
                        signature_name="r", regress_output=our.RegressOutput(value_column="value")
                    ),
                    predict_columns("p", y5="y"),
                ]
            ),
        ),
    ],
)
def test_tfxs_own_message_becomes_ours_with_equal_fields(theirs, ours):
    assert settings.to_setting("spec", theirs, type(ours)) == ours


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("{}", "str"),
        ({"example_splits": ["a"]}, "dict"),
        (our.ModelSpec(), "ModelSpec"),
        (bulk_inferrer_pb2.ModelSpec(), "ModelSpec"),
    ],
)
def test_other_type_is_refused_with_what_was_expected(value, got):
    with pytest.raises(SettingsError) as raised:
        settings.to_setting("data_spec", value, our.DataSpec)

    assert str(raised.value) == (
        "Expected bulk_inferencer.DataSpec, TFX's tfx.components.bulkinferrer.DataSpec or a "
        f"RuntimeParameter with its JSON as data_spec, got {got}."
    )


def test_runtime_parameter_is_kept_for_the_runner():
    parameter = runtime_parameter(default='{"example_splits": ["a"]}')

    assert settings.to_setting("data_spec", parameter, our.DataSpec) is parameter


def test_runtime_parameter_without_a_default_is_kept():
    parameter = runtime_parameter()

    assert settings.to_setting("data_spec", parameter, our.DataSpec) is parameter


def test_runtime_parameter_with_broken_json_is_refused():
    with pytest.raises(SettingsError) as raised:
        settings.to_setting("data_spec", runtime_parameter("{example"), our.DataSpec)

    assert str(raised.value).startswith(
        "Expected JSON of bulk_inferencer.DataSpec as data_spec, got '{example': "
    )


def test_runtime_parameter_with_an_unknown_field_is_refused_by_name():
    with pytest.raises(SettingsError, match=r'got \'\{"splits": \[\]\}\'.*"splits"'):
        settings.to_setting("data_spec", runtime_parameter('{"splits": []}'), our.DataSpec)


@pytest.mark.parametrize("mark", ["{{", "{%", "{#"])
def test_template_mark_is_refused_with_the_reason(mark):
    spec = our.ModelSpec(model_signature_name=["fine", f"serve{mark} ds }}}}"])

    with pytest.raises(SettingsError) as raised:
        settings.to_setting("model_spec", spec, our.ModelSpec)

    assert str(raised.value) == (
        f"Expected no template mark in model_spec, got '{mark}' in 'serve{mark} ds }}}}': "
        "Airflow would render it. Rename what it names."
    )


def test_template_mark_is_found_in_nested_messages():
    spec = our.OutputExampleSpec(output_columns_spec=[predict_columns(y="{{y}}")])

    with pytest.raises(SettingsError, match=r"in output_example_spec, got '{{' in '{{y}}'"):
        settings.to_setting("output_example_spec", spec, our.OutputExampleSpec)


def test_template_mark_is_found_in_the_default_of_a_runtime_parameter():
    parameter = runtime_parameter('{"example_splits": ["{{ ds }}"]}')

    with pytest.raises(SettingsError, match=r"in data_spec, got '{{' in '{{ ds }}'"):
        settings.to_setting("data_spec", parameter, our.DataSpec)


def test_json_of_settings_holds_no_template_mark_of_its_own():
    spec = our.ModelSpec(batch=our.BatchSpec(max_records=1))
    text = json_format.MessageToJson(spec, indent=None)

    assert not any(mark in text for mark in ("{{", "{%", "{#"))


@pytest.mark.parametrize("bound", ["max_records", "max_bytes"])
def test_batch_bound_below_one_is_refused_at_once(bound):
    spec = our.ModelSpec(batch=our.BatchSpec(**{bound: -1}))

    with pytest.raises(SettingsError) as raised:
        settings.to_setting("model_spec", spec, our.ModelSpec)

    assert str(raised.value) == (
        f"Expected a bound of at least 1, got -1 in BatchSpec.{bound}. Leave it out for the "
        "default."
    )


def test_failure_count_below_zero_is_refused_at_once():
    spec = our.DataSpec(failure_limit=our.FailureLimit(max_count=-1))

    with pytest.raises(SettingsError) as raised:
        settings.to_setting("data_spec", spec, our.DataSpec)

    assert str(raised.value) == (
        "Expected at least 0 in FailureLimit.max_count, got -1. Leave it out for no limit."
    )


@pytest.mark.parametrize("fraction", [-0.5, 1.5])
def test_failure_fraction_out_of_range_is_refused_at_once(fraction):
    spec = our.DataSpec(failure_limit=our.FailureLimit(max_fraction=fraction))

    with pytest.raises(SettingsError) as raised:
        settings.to_setting("data_spec", spec, our.DataSpec)

    assert str(raised.value) == (
        f"Expected a fraction from 0 to 1 in FailureLimit.max_fraction, got {fraction}. One "
        "percent is 0.01."
    )


# What an execution property holds


@pytest.mark.parametrize("text", [None, "", "{}"])
def test_nothing_parses_as_defaults(text):
    assert settings.parse("data_spec", text, our.DataSpec) == our.DataSpec()


def test_json_parses_with_names_of_either_style():
    expected = our.DataSpec(example_splits=["a"])

    assert settings.parse("data_spec", '{"example_splits": ["a"]}', our.DataSpec) == expected
    assert settings.parse("data_spec", '{"exampleSplits": ["a"]}', our.DataSpec) == expected


def test_json_parses_back_to_every_field():
    spec = our.ModelSpec(
        model_signature_name=["s"],
        tag=["t"],
        gate_policy=our.IGNORE,
        batch=our.BatchSpec(max_records=7, max_bytes=9),
        import_modules=["m"],
    )

    assert settings.parse("model_spec", json_format.MessageToJson(spec), our.ModelSpec) == spec


@pytest.mark.parametrize("text", ["[]", '"x"', "1", '{"example_splits": 3}', "{", "\0"])
def test_what_is_not_json_of_the_message_is_refused(text):
    with pytest.raises(SettingsError) as raised:
        settings.parse("data_spec", text, our.DataSpec)

    assert str(raised.value).startswith(
        f"Expected JSON of bulk_inferencer.DataSpec as data_spec, got {text!r}: "
    )


# Dataclasses


def test_empty_model_spec_gives_defaults():
    assert settings.model(our.ModelSpec(), "/m") == SavedModel("/m")
    assert settings.batch_bounds(our.ModelSpec()) == BatchBounds()


def test_model_spec_gives_signatures_tags_and_modules():
    spec = our.ModelSpec(
        model_signature_name=["a", "b"], tag=["t"], import_modules=["tensorflow_text"]
    )

    assert settings.model(spec, "/m") == SavedModel(
        "/m", signatures=("a", "b"), tags=("t",), import_modules=("tensorflow_text",)
    )


def test_batch_spec_gives_all_bounds():
    spec = our.ModelSpec(batch=our.BatchSpec(max_records=7, max_bytes=9, first_records=5))

    assert settings.batch_bounds(spec) == BatchBounds(7, max_bytes=9, first_records=5)


def test_zero_in_batch_spec_stands_for_the_default():
    spec = our.ModelSpec(batch=our.BatchSpec(max_records=0, max_bytes=9))

    assert settings.batch_bounds(spec) == BatchBounds(max_bytes=9)


def test_unknown_compression_is_refused_while_the_pipeline_is_built():
    message = (
        "Expected DataSpec.compression to be one of GZIP (0), NONE (1), got 7. Leave it out for "
        "gzip."
    )
    with pytest.raises(SettingsError, match="^" + re.escape(message) + "$"):
        settings.to_setting("data_spec", our.DataSpec(compression=7), our.DataSpec)


def test_empty_failure_limit_gives_defaults():
    assert settings.failure_limit(our.DataSpec()) == FailureLimit()


def test_zero_in_failure_limit_is_zero_and_not_the_default():
    spec = our.DataSpec(failure_limit=our.FailureLimit(max_count=0, max_fraction=0))

    assert settings.failure_limit(spec) == FailureLimit(max_count=0, max_fraction=0)


# Columns of output examples


def test_predict_columns_of_the_only_signature_need_not_name_it():
    assert columns(predict_columns(y5="y", s="scores")) == (
        Column("y", "y5"),
        Column("scores", "s"),
    )


def test_only_signature_may_be_named():
    assert columns(predict_columns("serving_default", y5="y")) == (Column("y", "y5"),)
    assert columns(predict_columns("a", y5="y"), signatures=["a"]) == (Column("y", "y5"),)


def test_classify_columns_come_from_classes_and_scores():
    classify = our.ClassifyOutput(label_column="label", score_column="score")

    assert columns(our.OutputColumnsSpec(classify_output=classify)) == (
        Column("classes", "label"),
        Column("scores", "score"),
    )


@pytest.mark.parametrize(
    ("field", "expected"),
    [("label_column", Column("classes", "c")), ("score_column", Column("scores", "c"))],
)
def test_classify_may_give_one_column_only(field, expected):
    classify = our.ClassifyOutput(**{field: "c"})

    assert columns(our.OutputColumnsSpec(classify_output=classify)) == (expected,)


def test_regress_column_comes_from_outputs():
    regress = our.RegressOutput(value_column="value")

    assert columns(our.OutputColumnsSpec(regress_output=regress)) == (Column("outputs", "value"),)


def test_columns_of_several_signatures_carry_their_names():
    classify = our.OutputColumnsSpec(
        signature_name="c", classify_output=our.ClassifyOutput(score_column="score")
    )

    found = columns(classify, predict_columns("p", y5="y"), signatures=["c", "p"])

    assert found == (Column("c/scores", "score"), Column("p/y", "y5"))


def test_unnamed_signature_is_refused_where_there_are_several():
    with pytest.raises(SettingsError) as raised:
        columns(predict_columns(y5="y"), signatures=["a", "b"])

    assert str(raised.value) == (
        "Expected OutputColumnsSpec.signature_name to be one of a, b, got ''. Name a signature "
        "of ModelSpec.model_signature_name."
    )


@pytest.mark.parametrize(
    ("signatures", "expected"), [([], "serving_default"), (["a"], "a"), (["a", "b"], "a, b")]
)
def test_signature_that_is_not_called_is_refused(signatures, expected):
    with pytest.raises(SettingsError) as raised:
        columns(predict_columns("other", y5="y"), signatures=signatures)

    assert str(raised.value) == (
        f"Expected OutputColumnsSpec.signature_name to be one of {expected}, got 'other'. Name "
        "a signature of ModelSpec.model_signature_name."
    )


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [our.OutputColumnsSpec()],
        [our.OutputColumnsSpec(predict_output=our.PredictOutput())],
        [our.OutputColumnsSpec(classify_output=our.ClassifyOutput())],
    ],
)
def test_no_column_at_all_is_refused(entries):
    with pytest.raises(SettingsError) as raised:
        columns(*entries)

    assert str(raised.value) == (
        "Expected at least one column in OutputExampleSpec.output_columns_spec, got none. Name "
        "the outputs that become features, or leave out output_example_spec."
    )


@pytest.mark.parametrize(("output", "column"), [("y", ""), ("", "y5")])
def test_column_without_output_or_name_is_refused(output, column):
    with pytest.raises(SettingsError) as raised:
        columns(predict_columns(**{column: output}))

    assert str(raised.value) == (
        f"Expected an output and a column name, got output '{output}' and column '{column}' in "
        "OutputExampleSpec. Fill in both."
    )


def test_regress_without_a_column_name_is_refused():
    with pytest.raises(SettingsError, match="got output 'outputs' and column ''"):
        columns(our.OutputColumnsSpec(regress_output=our.RegressOutput()))


def test_column_that_is_named_twice_is_refused_with_its_outputs():
    regress = our.OutputColumnsSpec(regress_output=our.RegressOutput(value_column="y5"))

    with pytest.raises(SettingsError) as raised:
        columns(predict_columns(y5="y"), regress)

    assert str(raised.value) == (
        "Expected every column of OutputExampleSpec once, got 'y5' for the outputs y, outputs. "
        "Choose another name."
    )
