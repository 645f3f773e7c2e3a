"""What results depend on, and that every part of it is noticed."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass

import pytest

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.csv import CSV
from bulk_inferencer._formats.example import Column
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._formats.json_lines import JSONLines
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.python_model import PythonModel
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._units.basis import Basis, NoBasisError, basis_of, digest_of
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.sinks.output_examples import OutputExamples
from bulk_inferencer._units.sinks.prediction_logs import PredictionLogs

FILES = [InputFile("a", 1, 2.0)]


@dataclass(frozen=True)
class Vocabulary:
    path: str

    def __call__(self, batch):
        return batch


def scaled(factor):
    def scale(records, outputs):
        return {name: factor * values for name, values in outputs.items()}

    return scale


def basis(**changed):
    parts = {
        "settings": {"bounds": BatchBounds(), "routing": None},
        "fingerprints": {"Model 'five'": "12"},
        "versions": {"numpy": "1"},
        "inputs": {"s": FILES},
        **changed,
    }
    return basis_of(**parts)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"settings": {"bounds": BatchBounds(7), "routing": None}}, "bounds"),
        ({"settings": {"bounds": BatchBounds(), "routing": SplitRouting({"a": 1})}}, "routing"),
        ({"fingerprints": {"Model 'five'": "13"}}, "Model 'five'"),
        ({"versions": {"numpy": "2"}}, "the versions of libraries"),
        ({"inputs": {"s": [InputFile("a", 1, 2.5)]}}, "the inputs of split 's'"),
        ({"inputs": {"s": [InputFile("b", 1, 2.0)]}}, "the inputs of split 's'"),
        ({"inputs": {"s": FILES, "t": []}}, "the inputs of split 't'"),
    ],
)
def test_every_difference_is_named(changed, name):
    assert basis().differences(basis()) == []
    assert basis().differences(basis(**changed)) == [name]
    assert (basis().digest == basis(**changed).digest) == ("inputs" in changed)


def test_digest_is_of_what_settings_say_and_not_of_where_files_lie():
    assert digest_of(SavedModel("a", ("s",))) == digest_of(SavedModel("b", ("s",)))
    assert digest_of(SavedModel("a", ("s",))) != digest_of(SavedModel("a", ("t",)))
    assert digest_of(PredictionLogs("five", "x")) == digest_of(PredictionLogs("five", "y"))
    assert digest_of(PredictionLogs("five", "x")) != digest_of(PredictionLogs("ten", "x"))
    patient = TFServing("a:1", "m", 7, limits=Limits(1, 2), credentials="grpc:anything")
    assert digest_of(patient) == digest_of(TFServing("a:1", "m", 7))
    sinks = [OutputExamples("x", (Column("y", name),), False, False, False) for name in "ab"]
    assert digest_of(sinks[0]) != digest_of(sinks[1])
    either = [PythonModel(scaled, concurrent=own) for own in (False, True)]
    assert digest_of(either[0]) == digest_of(either[1])
    for kind in (CSV, JSONLines):
        types = {"x": "int64", "y": "text"}
        assert digest_of(kind(types=types)) == digest_of(kind(types=dict(reversed(types.items()))))
    routing = SplitRouting({"a": 1, "b": 2}, kept_out=frozenset("b"))
    assert digest_of(routing) == digest_of(SplitRouting({"a": 1, "b": 2}, kept_out=frozenset("b")))


def test_source_of_hooks_and_modules_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "hooks_of_a_test.py"
    hooked = HookedModel(SavedModel("m"), "hooks_of_a_test:hook")
    importing = SavedModel("m", import_modules=("hooks_of_a_test",))
    found = []
    for body in ("return batch", "return batch[::-1]"):
        source.write_text(f"def hook(batch):\n    {body}\n")
        sys.modules.pop("hooks_of_a_test", None)
        found.append((digest_of(hooked), digest_of(importing)))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]
    assert digest_of(HookedModel(SavedModel("m"), postprocess=scaled(2))) == digest_of(
        HookedModel(SavedModel("m"), postprocess=scaled(2))
    )
    assert digest_of(scaled(2)) != digest_of(scaled(3))


def test_of_objects_of_users_every_field_and_the_source_count():
    assert digest_of(Vocabulary("a")) == digest_of(Vocabulary("a"))
    assert digest_of(Vocabulary("a")) != digest_of(Vocabulary("b"))
    first, second = ((lambda batch, n=n: batch[:n]) for n in (1, 2))
    assert digest_of(first) != digest_of(second)
    same_line = [lambda batch: batch[:1], lambda batch: batch[:2]]
    assert digest_of(same_line[0]) != digest_of(same_line[1])
    assert digest_of("test:score") != digest_of("test:other")


def test_nothing_is_reused_of_what_nobody_can_compare():
    def itself(batch):
        return itself(batch)

    for value in (functools.partial(print), object(), len, itself):
        with pytest.raises(NoBasisError):
            digest_of(value)
    with pytest.raises(NoBasisError, match=r"^nobody says when a was last changed$"):
        basis(inputs={"s": [InputFile("a", 1)]})
    with pytest.raises(NoBasisError, match=r"^Model 'five' has no fingerprint$"):
        basis(fingerprints={"Model 'five'": ""})
    assert isinstance(basis(), Basis)
