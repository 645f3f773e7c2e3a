"""The messages: TFX's own within ours, generated code that is up to date, a comment each."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from tfx.proto import bulk_inferrer_pb2 as theirs

from bulk_inferencer import bulk_inferencer_pb2 as our

CHECKOUT = Path(__file__).parents[2]
PROTO = CHECKOUT / "proto" / "bulk_inferencer" / "bulk_inferencer.proto"
GENERATED = ("bulk_inferencer/bulk_inferencer_pb2.py", "bulk_inferencer/bulk_inferencer_pb2.pyi")
NUMBERS = ("int32", "int64", "double")
SETTINGS = (*NUMBERS, "string", "bool", "GatePolicy", "Compression", "DamagedFiles", "Format")
FIRST_NUMBER_OF_OURS = 100
SHARED = sorted(theirs.DESCRIPTOR.message_types_by_name)
ADDED = {
    "DataSpec": {
        *("failure_limit", "compression", "checkpoint_dir", "keep_checkpoint", "checkpoint_days"),
        *("damaged_files", "max_damaged_files", "max_record_bytes", "columns", "rename", "vectors"),
        *("prediction_logs", "records_in_logs", "report"),
    },
    "ModelSpec": {
        *("gate_policy", "batch", "import_modules", "tf_serving", "vertex_endpoint"),
        *("takes_records", "features", "allow_missing"),
    },
    "OutputExampleSpec": {"replace_features"},
}


def description(module):
    """Returns a module's file as a FileDescriptorProto."""
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def message_of(module, name):
    (found,) = (message for message in description(module).message_type if message.name == name)
    return found


def fields_of(message):
    """Returns what counts for bytes and JSON of each field: all but the package of its type."""
    oneofs = [oneof.name for oneof in message.oneof_decl]
    for field in message.field:
        kind = field.type_name.rpartition(".")[2]
        oneof = oneofs[field.oneof_index] if field.HasField("oneof_index") else None
        yield field.name, field.number, field.type, field.label, kind, oneof


def test_tfx_has_the_messages_that_we_share():
    assert " ".join(SHARED) == (
        "ClassifyOutput DataSpec ModelSpec OutputColumnsSpec OutputExampleSpec PredictOutput "
        "PredictOutputCol RegressOutput"
    )


@pytest.mark.parametrize("name", SHARED)
def test_shared_message_has_tfxs_fields_and_numbers_of_our_own(name):
    ours, of_tfx = message_of(our, name), message_of(theirs, name)

    def reserved(message):
        return {number for r in message.reserved_range for number in range(r.start, r.end)}

    added = [field for field in fields_of(ours) if field[1] >= FIRST_NUMBER_OF_OURS]
    assert {field[0] for field in added} == ADDED.get(name, set())
    assert [field for field in fields_of(ours) if field not in added] == list(fields_of(of_tfx))
    assert reserved(of_tfx) <= reserved(ours)


def test_defaults_are_zero_so_that_tfxs_messages_mean_the_same():
    assert our.SKIP == our.ModelSpec().gate_policy == 0
    assert our.GZIP == our.DataSpec().compression == 0
    assert our.DataSpec.FAIL == our.DataSpec().damaged_files == 0
    assert not our.OutputExampleSpec().replace_features


@pytest.mark.slow
def test_generated_code_is_up_to_date(tmp_path):
    if not (CHECKOUT / "Makefile").exists() or not shutil.which("make"):
        pytest.skip("generating needs a checkout with its Makefile, and make")
    command = ["make", "--silent", "proto", f"PROTO_OUT={tmp_path}"]
    made = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if made.returncode and not list(CHECKOUT.glob(".cache/grpc-tools-*/.ready")):
        pytest.skip(f"the generator could not be installed: {made.stderr[-500:]}")

    assert made.returncode == 0, made.stderr
    for name in GENERATED:
        assert (tmp_path / name).read_text() == (CHECKOUT / name).read_text(), name


def declarations():
    """Yields type, name and comment of all that the .proto declares."""
    comment = []
    for line in map(str.strip, PROTO.read_text().splitlines()):
        if line.startswith("//"):
            comment.append(line.removeprefix("//").strip())
            continue
        found = re.fullmatch(
            r"(message|enum) (\w+) \{"
            r"|((?:optional |repeated )?[\w.]+|map<.*>) (\w+) = \d+;"
            r"|(\w+) = \d+;",
            line,
        )
        if found and line.split()[0] not in ("syntax", "reserved"):
            kind = found[1] or found[3] or "value"
            yield kind.split()[-1], found[2] or found[4] or found[5], " ".join(comment)
        comment = []


def test_everything_has_a_comment_and_settings_their_default_and_unit():
    file = description(our)
    enums = [*file.enum_type, *(enum for made in file.message_type for enum in made.enum_type)]
    assert sorted(name for _, name, _ in declarations()) == sorted(
        [message.name for message in file.message_type]
        + [field.name for message in file.message_type for field in message.field]
        + [enum.name for enum in enums]
        + [value.name for enum in enums for value in enum.value]
    )
    for kind, name, comment in declarations():
        assert re.fullmatch(r"[A-Z].*\.", comment), name
        if kind in SETTINGS:
            assert "Default: " in comment or "Required." in comment, name
        if kind in NUMBERS:
            assert "Unit: " in comment, name
