from __future__ import annotations

import logging
import subprocess
import sys
from importlib.util import find_spec

import pytest
from tensorflow.core.framework import graph_pb2

from bulk_inferencer import InferenceJob, Outputs, SavedModel, read_predictions, run
from bulk_inferencer._formats.record_format import FORMAT_PROTO
from bulk_inferencer._models import custom_ops
from bulk_inferencer._models.custom_ops import import_libraries_of, library_of, unknown_ops
from bulk_inferencer.engines.beam import Beam
from tests.helpers import write_tfrecord

# All ops of tensorflow_text 2.16.
TEXT_OPS = (
    *("CaseFoldUTF8", "ConstrainedSequence", "FastBertNormalize", "FindSourceOffsets"),
    *("FastWordpieceTokenizeWithOffsets", "MaxSpanningTree", "NormalizeUTF8", "PhraseTokenize"),
    *("NormalizeUTF8WithOffsetsMap", "RegexSplitWithOffsets", "RougeL", "SentenceFragments"),
    *("SentenceFragmentsV2", "SentencepieceDetokenizeOp", "SentencepieceIdToStringOp"),
    *("SentencepieceOp", "SentencepieceStringToIdOp", "SentencepieceTokenizeOp"),
    *("SentencepieceTokenizeWithOffsetsOp", "SentencepieceVocabSizeOp", "TFText>RoundRobinTrim"),
    *("SplitMergeTokenizeWithOffsets", "TFText>BoiseTagsToOffsets", "TokenizerFromLogits"),
    *("TFText>WhitespaceTokenizeWithOffsetsV2", "UnicodeScriptTokenizeWithOffsets"),
    *("WhitespaceTokenizeWithOffsets", "WordpieceTokenizeWithOffsets"),
)


def graph(*ops):
    return graph_pb2.GraphDef(node=[{"name": op, "op": op} for op in ops])


def test_ops_that_nobody_has_registered_are_unknown_and_functions_are_no_ops():
    own = graph("MatMul", "NoSuchOp", "own_function")
    own.library.function.add().signature.name = "own_function"
    own.library.function[0].node_def.add(name="a", op="NorThisOne")
    own.library.function[0].node_def.add(name="b", op="Add")
    assert unknown_ops(own) == {"NoSuchOp", "NorThisOne"}
    assert unknown_ops(graph("MatMul")) == set()


@pytest.mark.parametrize(
    ("library", "ops"),
    [
        ("tensorflow_text", TEXT_OPS),
        ("tensorflow_decision_forests",
         ("SimpleMLInferenceOpWithHandle", "SimpleMLLoadModelFromPathWithHandle")),
        ("struct2tensor", ("DecodeProtoSparseV4", "DecodeProtoMapV2", "EquiJoinIndices")),
        ("scann", ("Scann>ScannSearchBatched", "Scann>TensorsToScann")),
        ("tensorflow_recommenders_addons", ("TFRA>CuckooHashTableFind",)),
        ("tensorflow_addons", ("Addons>CorrelationCost",)),
        (None, ("MyOwnOp",)),
    ],
)  # fmt: skip
def test_library_of_an_op_is_known_by_its_name(library, ops):
    assert {library_of(op) for op in ops} == {library}


def test_libraries_are_imported_until_all_ops_are_known(tmp_path, monkeypatch, caplog):
    (tmp_path / "of_this_test.py").write_text("tried = []\nfound = []\n")
    record = "import of_this_test\nof_this_test.tried.append(__name__)\n"
    find = record + "of_this_test.found.append('OwnOp')\n"
    libraries = {
        "ops_broken": record + "raise OSError('undefined\\nsymbol')",
        "ops_missing": None,
        "ops_needing": record + "import no_such_module_of_ops",
        "ops_right": find,
        "ops_later": record,
    }
    for module, code in libraries.items():
        if code:
            (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.setattr(custom_ops, "LIBRARIES_OF_OPS", dict.fromkeys(libraries, r"\w+"))
    monkeypatch.syspath_prepend(tmp_path)
    import of_this_test
    from tensorflow.python.framework import op_def_registry

    monkeypatch.setattr(op_def_registry, "get", lambda op: op if op in of_this_test.found else None)
    with caplog.at_level(logging.INFO, "bulk_inferencer"):
        failed = import_libraries_of(["OwnOp"])
    assert of_this_test.tried == ["ops_broken", "ops_needing", "ops_right"]
    assert failed == {
        "ops_broken": "undefined symbol",
        "ops_needing": "No module named 'no_such_module_of_ops'",
    }
    assert caplog.messages == ["Imported ops_right, which defines OwnOp."]


def test_library_that_is_known_for_an_op_comes_first(monkeypatch):
    tried = []

    def import_module(module):
        tried.append(module)
        raise ModuleNotFoundError(name=module)

    monkeypatch.setattr(custom_ops.importlib, "import_module", import_module)
    assert import_libraries_of(["Scann>ScannSearch", "OwnOp"]) == {}
    assert tried[0] == "scann"
    assert sorted(tried) == sorted(custom_ops.LIBRARIES_OF_OPS)


SAVE = """
import sys, tensorflow as tf, tensorflow_text as text

@tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
def serve(examples):
    words = text.WhitespaceTokenizer().tokenize(text.case_fold_utf8(examples))
    lengths = tf.strings.length(text.FastBertNormalizer(True).normalize(examples))
    return {"words": words.row_lengths(), "lengths": lengths}

tf.saved_model.save(tf.Module(), sys.argv[1], signatures=serve)
"""


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("tensorflow_text"), reason="needs tensorflow_text")
@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_workers_import_the_library_that_a_model_needs(tmp_path, mode):
    subprocess.run([sys.executable, "-c", SAVE, str(tmp_path / "model")], check=True)
    write_tfrecord(tmp_path / "in.gz", [b"two words", b"One"])
    job = InferenceJob(
        splits={"all": [tmp_path / "in.gz"]},
        model=SavedModel(tmp_path / "model"),
        outputs=Outputs.under(tmp_path / "out"),
        record_format=FORMAT_PROTO,
    )
    runner = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
    summary = run(job, Beam([runner, f"--direct_running_mode={mode}", "--direct_num_workers=2"]))
    assert summary.total.predictions_written == 2
    found = list(read_predictions(tmp_path / "out" / "inference_result"))
    outputs = {own.record: (own.outputs["words"], own.outputs["lengths"]) for own in found}
    assert outputs == {b"two words": (2, 9), b"One": (1, 3)}
