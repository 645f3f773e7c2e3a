from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bulk_inferencer._formats.first_records import FirstRecords, of_batch
from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.python_model import PythonModel
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.trial import output_types
from bulk_inferencer._signatures import OutputType
from bulk_inferencer.errors import HookError, ModelError
from tests.helpers import exactly
from tests.models.fakes import Model, length, raising

INT, TEXT = OutputType("int64", ()), OutputType("string", ())
RECORDS = [b"a" * i for i in range(1, 30)]


def types_of(model, records=RECORDS, record_format=FORMAT_PROTO):
    signatures = model.check(record_format)
    return output_types(model, signatures, record_format, of_batch(records))


def test_model_that_tells_is_not_called(linear_model):
    class NeverLoaded(SavedModel):
        def load(self, record_format):
            raise AssertionError("it was loaded")

    types = types_of(NeverLoaded(linear_model), [], FORMAT_TF_EXAMPLE)
    assert types == {"y": OutputType("float32", (1,))}


def test_types_are_those_of_what_a_model_returns_for_a_few_records():
    def score(batch):
        return {
            "text": np.full(len(batch), b"x", object),
            "pair": np.zeros((len(batch), 2), np.float16),
            "padded": np.zeros((len(batch), max(map(len, batch)))),
        }

    model = Model(score)
    assert types_of(model) == {
        "text": TEXT,
        "pair": OutputType("float16", (2,)),
        "padded": OutputType("float64", (None,)),
    }
    assert sum(map(len, model.batches)) <= 16


def test_dtype_holds_what_any_of_the_calls_returned():
    def score(batch):
        dtype = np.float32 if len(batch) == 1 else np.int16
        return {"y": np.zeros(len(batch), dtype), "z": np.zeros((len(batch), 2)[: len(batch)])}

    assert types_of(Model(score)) == {
        "y": OutputType("float32", ()),
        "z": OutputType("float64", None),
    }


def test_rows_of_a_table_and_what_hooks_return_are_tried():
    model = PythonModel(lambda path: lambda features: {"double": features["x"] * 2})
    table = Rows(pa.table({"x": pa.array([1, 2], pa.int32())}))
    assert types_of(model, table, FORMAT_TF_EXAMPLE) == {"double": OutputType("int32", ())}
    hooked = HookedModel(model, postprocess=lambda records, outputs: {"n": ["a"] * len(records)})
    assert types_of(hooked, table, FORMAT_TF_EXAMPLE) == {"n": TEXT}


def test_records_that_fail_are_passed_over():
    assert types_of(Model(length), [b"bad", b"a", b"bad", b"b"]) == {"y": INT}
    records = [b"bad"] * 40 + [b"a"]
    first = FirstRecords(lambda: iter([records]))
    model = Model(length)
    assert output_types(model, model.signatures, FORMAT_PROTO, first) == {"y": INT}


def test_without_a_record_that_can_be_scored_the_columns_are_not_known():
    message = (
        "The columns of the table could not be found out, since memory://length scored none of the "
        "first 20 records. ValueError: it is bad. Correct the model or the records, or leave out "
        "the table."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        types_of(Model(length), [b"bad"] * 20)
    assert types_of(Model(length), []) == {}


def test_model_that_breaks_its_contract_says_so_itself():
    with pytest.raises(HookError, match="of its own"):
        types_of(raising(HookError("of its own")))


@pytest.mark.parametrize("bound", [0, 1000], ids=["none exits", "all exit"])
def test_every_stage_of_a_cascade_is_tried_whichever_record_reaches_it(bound):
    def small(batch):
        return {"size": np.array([len(record) for record in batch])}

    def full(batch):
        return {"label": np.full((len(batch), 2), b"x", object)}

    stages = (
        Stage("small", Model(small), (), (ExitWhen("size", at_most=bound),)),
        Stage("full", Model(full)),
    )
    labels = OutputType("string", (2,))
    by_stage = {"small/size": INT, "full/label": labels}
    assert types_of(CascadeModel(stages)) == {"size": INT, "label": labels, **by_stage}
    nested = CascadeModel([Stage("first", Model(length)), Stage("rest", CascadeModel(stages))])
    of_rest = {"size": INT, "label": labels, **by_stage}
    prefixed = {f"rest/{name}": own for name, own in of_rest.items()}
    assert types_of(nested) == {**of_rest, "first/y": INT, **prefixed}


def test_postprocess_around_a_cascade_sees_records_of_every_stage():
    stages = (
        Stage("small", Model(length, "y"), (), (ExitWhen("y", at_most=1000),)),
        Stage("full", Model(length, "y")),
    )
    model = HookedModel(CascadeModel(stages), postprocess=lambda records, outputs: outputs)
    assert types_of(model) == {"y": INT, "small/y": INT, "full/y": INT}
