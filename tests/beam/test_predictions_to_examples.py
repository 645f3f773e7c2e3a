from __future__ import annotations

import pytest
from apache_beam.typehints import typehints
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bulk_inferencer.beam import Column, PredictionsToExamples, RunInference, SavedModel
from bulk_inferencer.errors import SettingsError
from tests.beam.helpers import given, outputs_of, pipeline_of, run_together, while_running, y_of
from tests.helpers import exactly, example

Any, List, Tuple = typehints.Any, typehints.List, typehints.Tuple

X_OF_Y = Column(output="y", name="x")


@pytest.mark.parametrize(
    ("element_type", "expected"),
    [
        (PredictionLog, bytes),
        (Tuple[str, PredictionLog], Tuple[str, bytes]),
        (Tuple[int, List[PredictionLog]], Tuple[int, List[bytes]]),
        (Tuple[int, Any], Tuple[int, Any]),
        (Any, Any),
    ],
)
def test_type_of_the_examples_follows_from_that_of_the_predictions(element_type, expected):
    logs = given(pipeline_of(), [], element_type)
    assert (logs | PredictionsToExamples([X_OF_Y])).element_type == expected


LOG = PredictionLog()


@pytest.mark.parametrize(
    "element_type",
    [
        *(Tuple[PredictionLog, PredictionLog], Tuple[str, Tuple[PredictionLog, PredictionLog]]),
        Tuple[str, Tuple[List[PredictionLog], List[PredictionLog]]],
    ],
    ids=str,
)
def test_predictions_of_several_models_are_refused_by_their_type(element_type):
    logs = given(pipeline_of(), [], element_type)
    with pytest.raises(SettingsError, match="not a tuple of 2 from several models"):
        logs | PredictionsToExamples([X_OF_Y])


@pytest.mark.slow
def test_examples_stand_where_their_predictions_stood(linear_model):
    five = RunInference(SavedModel(linear_model))
    added = PredictionsToExamples([Column(output="y", name="five_times")])
    replaced = PredictionsToExamples([X_OF_Y], replace_features=True)
    record = example(x=3.0)
    found = run_together(
        {
            "alone": (five | added, [record]),
            "keyed": (five | "Keyed" >> added, [("k", record)]),
            "list": (five | "List" >> added, [("k", [record, record]), ("none", [])]),
            "composed": (
                five | replaced | "Next" >> RunInference(SavedModel(linear_model)),
                [record],
            ),
        },
        "--runtime_type_check",
    )
    made = record + example(five_times=15.0)
    assert found["alone"] == [made]
    assert found["keyed"] == [("k", made)]
    assert dict(found["list"]) == {"k": [made, made], "none": []}
    assert list(map(y_of, found["composed"])) == [75.0]


@pytest.mark.parametrize(
    ("element", "got"),
    [(("k", 1), "int"), (("k", [1]), "int"), ((LOG,) * 2, "a tuple of 2 from several models"),
     ((LOG,) * 3, "a tuple of 3 from several models")],
)  # fmt: skip
def test_other_elements_are_an_error(element, got):
    message = (
        f"PredictionsToExamples takes PredictionLogs, alone, as (key, log) or as "
        f"(key, [log, ...]), not {got}. Put it directly after RunInference."
    )
    with pytest.raises(SettingsError, match=while_running(message)):
        outputs_of(PredictionsToExamples([X_OF_Y]), [element], Any)


def test_log_without_its_record_is_an_error():
    message = (
        "A PredictionLog does not carry its record, so there is nothing to add the columns to. "
        "Write the predictions with their records (records_in_logs)."
    )
    log = PredictionLog(predict_log={"response": LOG.predict_log.response})
    with pytest.raises(SettingsError, match=while_running(message)):
        outputs_of(PredictionsToExamples([X_OF_Y]), [log])


def test_columns_are_checked():
    message = (
        "PredictionsToExamples has no column. Name an output and its feature: Column('y', 'x')."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        PredictionsToExamples([])
    for columns in (X_OF_Y, [X_OF_Y, X_OF_Y]):
        with pytest.raises(SettingsError, match=r"\bPredictionsToExamples\b"):
            PredictionsToExamples(columns)
