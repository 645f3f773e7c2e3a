"""The messages: TFX's own within ours, generated code that is up to date, a comment each."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from tfx.proto import bulk_inferrer_pb2

from bulk_inferencer import bulk_inferencer_pb2

CHECKOUT = Path(__file__).parents[2]
PROTO = CHECKOUT / "proto" / "bulk_inferencer" / "bulk_inferencer.proto"
NUMBERS = ("int64", "double")
SETTINGS = (*NUMBERS, "string", "bool", "GatePolicy", "Compression")
GENERATED = ("bulk_inferencer/bulk_inferencer_pb2.py", "bulk_inferencer/bulk_inferencer_pb2.pyi")
FIRST_NUMBER_OF_OURS = 100

SHARED = sorted(bulk_inferrer_pb2.DESCRIPTOR.message_types_by_name)


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
    return [
        (
            field.name,
            field.number,
            field.type,
            field.label,
            field.type_name.rpartition(".")[2],
            oneofs[field.oneof_index] if field.HasField("oneof_index") else None,
        )
        for field in message.field
    ]


# A message, enum, field or value of the .proto: the kind of a field is its type.
Declaration = namedtuple("Declaration", "kind name comment")


def declarations():
    found_all, comment = [], []
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
            name = found[2] or found[4] or found[5]
            found_all.append(Declaration(kind.split()[-1], name, " ".join(comment)))
        comment = []
    return found_all


DECLARATIONS = declarations()


def test_tfx_has_the_messages_that_we_share():
    assert " ".join(SHARED) == (
        "ClassifyOutput DataSpec ModelSpec OutputColumnsSpec OutputExampleSpec PredictOutput "
        "PredictOutputCol RegressOutput"
    )


@pytest.mark.parametrize("name", SHARED)
def test_shared_message_has_tfxs_fields_and_reserves_its_numbers(name):
    ours = message_of(bulk_inferencer_pb2, name)
    theirs = message_of(bulk_inferrer_pb2, name)

    def reserved(message):
        return {number for r in message.reserved_range for number in range(r.start, r.end)}

    shared = [field for field in fields_of(ours) if field[1] < FIRST_NUMBER_OF_OURS]
    assert shared == fields_of(theirs)
    assert reserved(theirs) <= reserved(ours)


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("DataSpec", {"failure_limit", "compression"}),
        ("ModelSpec", {"gate_policy", "batch", "import_modules", "tf_serving", "vertex_endpoint"}),
        ("OutputExampleSpec", {"replace_features"}),
    ],
)
def test_what_we_add_to_tfxs_messages_has_numbers_of_its_own(name, added):
    fields = message_of(bulk_inferencer_pb2, name).field
    assert {f.name for f in fields if f.number >= FIRST_NUMBER_OF_OURS} == added


def test_defaults_are_zero_so_that_tfxs_messages_mean_the_same():
    assert bulk_inferencer_pb2.SKIP == 0
    assert bulk_inferencer_pb2.ModelSpec().gate_policy == bulk_inferencer_pb2.SKIP
    assert bulk_inferencer_pb2.DataSpec().compression == bulk_inferencer_pb2.GZIP
    assert not bulk_inferencer_pb2.OutputExampleSpec().replace_features


@pytest.mark.slow
def test_generated_code_is_up_to_date(tmp_path):
    if not (CHECKOUT / "Makefile").exists() or not shutil.which("make"):
        pytest.skip("generating needs a checkout with its Makefile, and make")
    made = subprocess.run(
        ["make", "--silent", "proto", f"PROTO_OUT={tmp_path}"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    if made.returncode and not list(CHECKOUT.glob(".cache/grpc-tools-*/.ready")):
        pytest.skip(f"the generator could not be installed: {made.stderr[-500:]}")

    assert made.returncode == 0, made.stderr
    for name in GENERATED:
        assert (tmp_path / name).read_text() == (CHECKOUT / name).read_text(), name


def test_declarations_are_all_found():
    file = description(bulk_inferencer_pb2)
    assert sorted(declaration.name for declaration in DECLARATIONS) == sorted(
        [message.name for message in file.message_type]
        + [field.name for message in file.message_type for field in message.field]
        + [enum.name for enum in file.enum_type]
        + [value.name for enum in file.enum_type for value in enum.value]
    )


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=lambda d: d.name)
def test_everything_has_a_comment_and_settings_their_default_and_unit(declaration):
    kind, comment = declaration.kind, declaration.comment
    assert re.fullmatch(r"[A-Z].*\.", comment)
    if kind in SETTINGS:
        assert "Default: " in comment or "Required." in comment
    if kind in NUMBERS:
        assert "Unit: " in comment
