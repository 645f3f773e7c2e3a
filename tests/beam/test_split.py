from __future__ import annotations

import apache_beam as beam
import pytest

from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer.beam import ABTest, RunInference, SavedModel
from bulk_inferencer.beam.gathered import example_of
from bulk_inferencer.errors import FailedRecordError, ModelError, SettingsError
from tests.beam.helpers import given, outputs_of, pipeline_of, plain, run_together, while_running
from tests.helpers import example

WEIGHTS = {"five": 1, "ten": 1}
USERS = [f"user{i % 10}" for i in range(40)]
RECORDS = [example(x=float(i), user=user) for i, user in enumerate(USERS)]
ROWS = [{"x": i / 2, "user": user} for i, user in enumerate(USERS)]
PAIRS = list(zip(USERS, RECORDS, strict=True))


def user_of(record):
    return USERS[RECORDS.index(record)].encode()


def ab_test(weights=WEIGHTS, **settings):
    """Returns an A/B test of transforms that give elements back as they come."""
    return ABTest({name: beam.Map(lambda e: e) for name in ("five", "ten")}, weights, **settings)


NO_KEY = (
    "ABTest splits by a key of bytes, text or a number, not by {}. Use a function as key= that "
    "returns one of them."
)
# By where the key comes from: settings of the test, elements, and the key of an element.
TESTS = {
    "pairs": ({"weights": {"five": 9, "ten": 1}}, PAIRS, lambda pair: pair[0].encode()),
    "batches": ({}, [(i, RECORDS[:2]) for i in range(20)], lambda pair: str(pair[0]).encode()),
    "record": ({}, RECORDS, lambda record: record),
    "feature": ({"key": "user", "salt": "2"}, RECORDS, user_of),
    "feature of pairs": ({"key": "user"}, [(1, p[1]) for p in PAIRS], lambda p: user_of(p[1])),
    "text": ({"key": lambda record: "all"}, RECORDS, lambda record: b"all"),
    "row": ({}, ROWS, lambda row: example_of(row)),
    "column": ({"key": "user", "salt": "2"}, ROWS, lambda row: row["user"].encode()),
    "column of numbers": ({"key": "x"}, ROWS, lambda row: str(row["x"]).encode()),
    "key of rows": ({}, [(row["user"], row) for row in ROWS], lambda pair: pair[0].encode()),
    "row that is no tf.Example": ({}, [{"x": {}}], lambda row: b""),
    "number": ({"key": lambda pair: len(pair[0])}, PAIRS, lambda pair: b"5"),
}


@pytest.fixture(scope="module")
def split():
    """Elements by model."""
    cases = {label: (ab_test(**test[0]), test[1]) for label, test in TESTS.items()}
    return run_together(cases)


@pytest.mark.slow
@pytest.mark.parametrize("label", TESTS)
def test_elements_go_by_the_hash_of_their_key(split, label):
    settings, elements, key_of = TESTS[label]
    routing = SplitRouting(settings.get("weights", WEIGHTS), salt=settings.get("salt", ""))
    expected = {name: [] for name in WEIGHTS}
    for element in elements:
        expected[routing.model_of(key_of(element))].append(element)
    assert {name: sorted(found, key=repr) for name, found in split[label].items()} == {
        name: sorted(wanted, key=repr) for name, wanted in expected.items()
    }


@pytest.mark.slow
def test_each_model_is_called_with_settings_of_its_own(linear_model):
    five = SavedModel(linear_model)
    # With this salt, the record that cannot be scored goes to the transform with failures.
    routing = SplitRouting(WEIGHTS, salt="3")
    assert routing.model_of(b"user0") == "ten"
    elements = [(f"user{i}", example(x=1.0) if i else b"bad") for i in range(20)]
    transform = ABTest({"five": five, "ten": RunInference(five).with_failures()}, WEIGHTS, salt="3")
    found = run_together({"test": (transform, elements)}, "--runtime_type_check")["test"]
    assert [failure.key for failure in found["ten"]["failures"]] == ["user0"]
    scored = plain(found["five"] + found["ten"]["predictions"])
    assert sorted(scored) == sorted((user, 5.0) for user, _ in elements[1:])


@pytest.mark.parametrize(
    ("settings", "element", "error", "message"),
    [
        ({"key": "user"}, example(x=1.0), FailedRecordError,
         (f"ABTest found no key in the record {example(x=1.0)!r}: feature 'user' has 0 values; "
          f"splitting needs exactly one. Fix the record, or use a function as key=.")),
        ({"key": "user"}, {"x": 1.0}, FailedRecordError,
         ("ABTest found no key in the record {'x': 1.0}: feature 'user' has 0 values; splitting "
          "needs exactly one. Fix the record, or use a function as key=.")),
        ({"key": "user"}, {"user": {}}, FailedRecordError,
         ("ABTest found no key in the record {'user': {}}: column 'user' holds a dict, which a "
          "tf.Example cannot hold. Leave it out. Fix the record, or use a function as key=.")),
        ({"key": "user"}, ("a", RECORDS[:2]), SettingsError,
         ("ABTest cannot read feature 'user' of a list: it has 2 records. Leave out key= to split "
          "by the key of the element.")),
        ({}, ((1, 2), RECORDS[0]), SettingsError, NO_KEY.format("(1, 2)")),
        ({"key": lambda record: None}, RECORDS[0], SettingsError, NO_KEY.format("None")),
    ],
    ids=["no feature", "no column", "unfit", "list", "tuple", "function"],
)  # fmt: skip
def test_element_without_a_key_is_an_error(settings, element, error, message):
    with pytest.raises(error, match=while_running(message)):
        outputs_of(ab_test(**settings), [element])


def test_names_and_weights_are_checked_and_models_are_named_in_errors(linear_model, tmp_path):
    with pytest.raises(SettingsError, match="five, ten"):
        ab_test({"five": 1})
    with pytest.raises(SettingsError, match="'Five'"):
        ABTest({"Five": SavedModel("models/5")}, {"Five": 1})
    with pytest.raises(
        SettingsError, match=r"^Model 'ten': The string 'models/ten' is not a model"
    ):
        ABTest({"five": SavedModel(linear_model), "ten": "models/ten"}, WEIGHTS)
    models = {"five": SavedModel(linear_model), "ten": SavedModel(str(tmp_path))}
    with pytest.raises(ModelError, match=r"^Model 'ten': .* saved_model\.pb"):
        given(pipeline_of(), RECORDS) | ABTest(models, WEIGHTS)
