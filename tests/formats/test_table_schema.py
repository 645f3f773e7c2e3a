from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from bulk_inferencer._formats.table_schema import column_type, kept_of, prediction_columns
from bulk_inferencer._formats.table_settings import TableSettings
from bulk_inferencer._signatures import OutputType
from bulk_inferencer.errors import ModelError, SettingsError
from tests.helpers import exactly

NONE = pa.schema([])
Y, LABEL = OutputType("float32", ()), OutputType("string", ())
SETTINGS = TableSettings()


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (("float32", ()), pa.float32()),
        (("float32", (1,)), pa.float32()),
        (("float64", (1, 1)), pa.float64()),
        (("float16", (3,)), pa.list_(pa.float32())),
        (("bfloat16", (None,)), pa.list_(pa.float32())),
        (("int8", (2, 3)), pa.list_(pa.list_(pa.int8()))),
        (("int64", (None, 1)), pa.list_(pa.list_(pa.int64()))),
        (("uint64", ()), pa.uint64()),
        (("bool", (0,)), pa.list_(pa.bool_())),
        (("string", ()), pa.string()),
        (("string", (4,)), pa.list_(pa.string())),
    ],
)
def test_rows_of_one_value_are_flat_and_others_are_lists(output, kind):
    assert column_type("y", OutputType(*output)) == kind


def test_strings_are_bytes_where_that_is_asked_for():
    assert column_type("y", OutputType("string", (2,)), is_binary=True) == pa.list_(pa.binary())


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            ("complex64", ()),
            (
                "Output 'y' has dtype complex64; a table can hold bool, int8, int16, int32, int64, "
                "uint8, uint16, uint32, uint64, float32, float64, float16, bfloat16 and strings. "
                "Cast it in the model, or write no table."
            ),
        ),
        (
            ("float32", None),
            (
                "The model does not say how many dimensions output 'y' has, so its column in the "
                "table has no type. Give it a shape in the serving signature."
            ),
        ),
    ],
)
def test_output_without_a_type_in_tables_is_named(output, message):
    with pytest.raises(ModelError, match=exactly(message)):
        column_type("y", OutputType(*output))


@pytest.mark.parametrize(
    ("models", "settings", "before", "of_b"),
    [
        (["b"], {}, ["id"], {"y": "y", "label": "label"}),
        (["b"], {"names_models": True}, ["id"], {"y": "b/y", "label": "b/label"}),
        (
            ["a", "b"],
            {"names_models": True, "has_split": True},
            ["split", "id", "a/y", "a/label"],
            {"y": "b/y", "label": "b/label"},
        ),
        (
            ["a", "b"],
            {"names_models": True, "is_split": True, "has_key": True},
            ["key", "id", "variant"],
            {"y": "y", "label": "label"},
        ),
    ],
)
def test_columns_are_named_and_ordered_by_the_kind_of_run(models, settings, before, of_b):
    kept = pa.schema([("id", pa.int64())])
    types = {model: {"y": Y, "label": LABEL} for model in models}
    columns = pickle.loads(pickle.dumps(prediction_columns(kept, types, SETTINGS, **settings)))
    assert columns.schema.names == [*before, *of_b.values()]
    assert columns.schema.types[-2:] == [pa.float32(), pa.string()]
    assert columns.outputs["b"] == of_b
    assert columns.kept_schema == kept


def variants(*dtypes):
    types = {f"m{i}": {"y": OutputType(dtype, (2,))} for i, dtype in enumerate(dtypes)}
    columns = prediction_columns(NONE, types, SETTINGS, names_models=True, is_split=True)
    return columns.schema.field("y").type.value_type


def test_column_of_an_ab_test_holds_what_any_of_its_models_returns():
    assert variants("float32", "float64") == pa.float64()
    assert variants("int8", "uint8", "int32") == pa.int32()
    message = (
        "The models return 'y' as {} and as {}, which one column cannot hold. Let all of them "
        "return the same type."
    )
    for dtypes in (("int64", "float64"), ("int64", "uint64"), ("string", "float32")):
        with pytest.raises(ModelError, match=r"^The models return 'y' as "):
            variants(*dtypes)
    types = {"a": {"y": Y}, "b": {"y": OutputType("float32", (2,))}}
    with pytest.raises(ModelError, match=exactly(message.format("float", "list<item: float>"))):
        prediction_columns(NONE, types, SETTINGS, is_split=True)


@pytest.mark.parametrize(
    ("kept", "settings", "what"),
    [
        ("y", {}, "{}, and an output of the model"),
        ("split", {"has_split": True}, "the column that names the split, and {}"),
        ("key", {"has_key": True}, "the column with the key, and {}"),
        ("variant", {"is_split": True}, "{}, and the column that names the model"),
    ],
)
def test_two_columns_of_one_name_are_refused(kept, settings, what):
    message = (
        f"The table would have two columns named '{kept}': "
        f"{what.format('a feature of the inputs')}. Name the features that it keeps "
        f"in TableSettings.keep, without '{kept}', or rename the output."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        prediction_columns(pa.schema([(kept, pa.int64())]), {"a": {"y": Y}}, SETTINGS, **settings)


@pytest.mark.parametrize("name", ["label", "a/label"])
def test_binary_names_an_output_of_all_models_or_of_one(name):
    types, settings = {"a": {"label": LABEL}, "b": {"label": LABEL}}, TableSettings(binary=[name])
    schema = prediction_columns(NONE, types, settings, names_models=True).schema
    kinds = {own.name: own.type for own in schema}
    is_one = name == "a/label"
    assert kinds == {"a/label": pa.binary(), "b/label": pa.string() if is_one else pa.binary()}


def test_binary_that_is_not_there_is_named_with_what_is_near():
    message = (
        "TableSettings.binary names 'lable', but the table has key, label. Did you mean 'label'? "
        "Correct binary."
    )
    settings = TableSettings(binary=["lable"])
    with pytest.raises(SettingsError, match=exactly(message)):
        prediction_columns(NONE, {"a": {"label": LABEL}}, settings, has_key=True)


AVAILABLE = pa.schema(
    [
        pa.field("id", pa.int64(), metadata={"a": "b"}),
        ("text", pa.string()),
        ("words", pa.list_(pa.string())),
        ("colour", pa.dictionary(pa.int32(), pa.string())),
    ],
    metadata={"pandas": "{}"},
)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, [("id", pa.int64()), ("text", pa.string()), ("colour", pa.string())]),
        ({"keep": ()}, []),
        ({"keep": ("words", "id")}, [("words", pa.list_(pa.string())), ("id", pa.int64())]),
        (
            {"keep": ("words", "text"), "binary": ("words", "text")},
            [("words", pa.list_(pa.binary())), ("text", pa.binary())],
        ),
    ],
)
def test_all_scalars_are_kept_unless_features_are_named(settings, kept):
    found = kept_of(AVAILABLE, TableSettings(**settings))
    assert found.equals(pa.schema(kept), check_metadata=True)


@pytest.mark.parametrize(
    ("available", "message"),
    [
        (
            AVAILABLE,
            (
                "TableSettings.keep names 'colours', but the inputs have no such feature; they "
                "have id, text, words, colour. Did you mean 'colour'? Correct keep."
            ),
        ),
        (
            None,
            (
                "TableSettings.keep names 'colours', but the records have no features to keep. "
                "Leave out keep."
            ),
        ),
    ],
)
def test_feature_to_keep_that_is_not_there_is_named(available, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        kept_of(available, TableSettings(keep=("colours",)))


def test_records_without_features_keep_none():
    assert kept_of(None, SETTINGS) == NONE
