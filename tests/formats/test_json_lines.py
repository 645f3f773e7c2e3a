"""JSON Lines: types, keys that come and go, and what is said of lines that cannot be read."""

from __future__ import annotations

import datetime
import json

import pyarrow as pa
import pytest

from bulk_inferencer._formats.json_lines import JSONLines
from bulk_inferencer.errors import InputError, SettingsError
from tests.formats.reading import failures_of, listed, reader_of, table_of
from tests.helpers import exactly


def test_types_are_told_by_the_first_lines(tmp_path):
    content = (
        b'{"n": 1, "x": 1, "flag": true, "t": "2024-01-02", "none": null, "list": [], "some": [1]}'
        b"\n"
        b'{"x": 1.5, "t": null, "list": null, "some": [2.5, null]}\n'
    )
    file = listed(tmp_path / "x.jsonl", content)
    reader = reader_of(JSONLines(), file)
    assert {field.name: str(field.type) for field in reader.schema} == {
        "n": "int64",
        "x": "double",
        "flag": "bool",
        "t": "string",
        "none": "string",
        "list": "list<item: string>",
        "some": "list<item: double>",
    }
    assert table_of(reader, file).to_pylist() == [
        {"n": 1, "x": 1.0, "flag": True, "t": "2024-01-02", "none": None, "list": [], "some": [1]},
        {"n": None, "x": 1.5, "flag": None, "t": None, "none": None, "list": None}
        | {"some": [2.5, None]},
    ]


def test_no_whole_number_is_rounded(tmp_path):
    content = (
        b'{"id": 9007199254740993, "all": [9007199254740993], "x": 0.12345678901234567}\n'
        b'{"id": 18446744073709551615, "all": [18446744073709551615, null], "x": 1}\n'
    )
    file = listed(tmp_path / "x.jsonl", content)
    reader = reader_of(JSONLines(), file)
    assert reader.schema.types == [pa.uint64(), pa.list_(pa.uint64()), pa.float64()]
    assert table_of(reader, file).select(["id", "all"]).to_pylist() == [
        {"id": 2**53 + 1, "all": [2**53 + 1]},
        {"id": 2**64 - 1, "all": [2**64 - 1, None]},
    ]


@pytest.mark.parametrize("other", ["0.5", "-1", "18446744073709551616"])
def test_column_that_any_type_would_round_is_an_error_where_somebody_takes_it(tmp_path, other):
    values = f'{{"id": 9223372036854775808, "n": 1}}\n{{"id": {other}, "n": 2}}\n'
    file = listed(tmp_path / "x.jsonl", values.encode())
    message = (
        "Column 'id' holds 9223372036854775808, which float64 rounds, and no other type of numbers "
        "holds all values of the column as they are. Name a type in JSONLines.types, such as "
        "float64, or leave the column out with columns=."
    )
    with pytest.raises(InputError, match=exactly(message)):
        reader_of(JSONLines(), file)
    others = reader_of(JSONLines(), file, columns=["n"], kept=())
    assert table_of(others, file).to_pydict() == {"n": [1, 2]}
    own = reader_of(JSONLines({"id": "float64"}), file)
    assert table_of(own, file)["id"].to_pylist() == [2.0**63, float(other)]


def test_types_can_be_set_and_name_keys_that_come_late(tmp_path):
    types = {"t": "timestamp[us]", "v": "list<float32>", "late": "text", "n": "float32"}
    file = listed(tmp_path / "x.jsonl", b'{"t": "2024-01-02", "n": 1, "v": [1]}\n')
    reader = reader_of(JSONLines(types), file)
    assert reader.schema.field("v").type == pa.list_(pa.float32())
    assert table_of(reader, file).to_pylist() == [
        {"t": datetime.datetime(2024, 1, 2), "v": [1.0], "late": None, "n": 1.0}
    ]


BAD = [
    (b'{"n": "one"}', "Column 'n' holds 'one', which is no int64."),
    (b'{"n": 1.5}', "Column 'n' holds 1.5, which is no int64."),
    (b'{"n": [1]}', "Column 'n' holds [1], which is no int64."),
    (
        b'{"n": 1, "new": 2}',
        (
            "The key 'new' is in none of the first lines, so it is no column. Name it in "
            "JSONLines.types, or leave it out with columns=, which names the others: "
            '\'{"n": 1, "new": 2}\''
        ),
    ),
    (b'{"s": "\xe4"}', 'The line is not UTF-8: \'{"s": "\ufffd"}\''),
    (
        b'{"n": 1',
        "The line is no JSON (Expecting ',' delimiter: line 1 column 8 (char 7)): '{\"n\": 1'",
    ),
    (
        b'{"n": 1}{"n": 2}',
        'The line is no JSON (Extra data: line 1 column 9 (char 8)): \'{"n": 1}{"n": 2}\'',
    ),
    (b"null", "The line is no JSON object: 'null'"),
    (
        b'{"n": 1} null {"n": 2}',
        'The line is no JSON (Extra data: line 1 column 10 (char 9)): \'{"n": 1} null {"n": 2}\'',
    ),
    (
        b'{"n": 1} ] }',
        "The line is no JSON (Extra data: line 1 column 10 (char 9)): '{\"n\": 1} ] }'",
    ),
    (
        b'{"n": 1} {"n": 5} {"n": 6} ] }',  # as many objects as there are lines
        (
            "The line is no JSON (Extra data: line 1 column 10 (char 9)): "
            '\'{"n": 1} {"n": 5} {"n": 6} ] }\''
        ),
    ),
    (b"[1]", "The line is no JSON object: '[1]'"),
    (
        b'{"n": 1, "n": 2}',
        'JSON parse error: Column(/n) was specified twice: \'{"n": 1, "n": 2}\'',
    ),
    (
        b'{"s": "a\0b"}',
        (
            "The line is no JSON (Invalid control character at: line 1 column 9 (char 8)): "
            '\'{"s": "a\\x00b"}\''
        ),
    ),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_bad_line_is_named_with_its_reason(tmp_path, line, message):
    file = listed(tmp_path / "x.jsonl", b'{"n": 1, "s": "a"}\n' + line + b'\n{"n": 2}')
    whole = listed(tmp_path / "y.jsonl", b'{"n": 1, "s": "a"}\n')
    reader = reader_of(JSONLines({"n": "int64", "s": "text"}), whole)
    assert table_of(reader, file)["n"].to_pylist() == [1, None, 2]
    assert failures_of(reader, file) == {1: message}


NESTED = [
    b"[" * 100_000 + b"1" + b"]" * 100_000,
    b'["]",' * 100 + b"1" + b"]" * 100,
    b'{"":' * 100 + b"1" + b"}" * 100,
]


@pytest.mark.parametrize("value", NESTED, ids=["very deep", "lists", "objects"])
def test_line_of_too_many_levels_is_bad_wherever_it_comes(tmp_path, value):
    file = listed(tmp_path / "x.jsonl", b'{"n": 1}\n{"n": %s}\n{"n": 2}\n' % value)
    reader = reader_of(JSONLines(), file)
    assert table_of(reader, file).to_pydict() == {"n": [1, None, 2]}
    message = "The line has lists or objects in each other, more than 100 levels deep: '"
    assert failures_of(reader, file)[1].startswith(message)


def test_what_looks_like_levels_or_null_in_text_does_no_harm(tmp_path):
    texts = ["[" * 200, "} null {", '\\"' + "{" * 101 + '"']
    pairs = "[" + "[1],[2]," * 100 + "[3]]"
    lines = [f'{{"t": {json.dumps(text)}, "pairs": {pairs}}}' for text in texts]
    file = listed(tmp_path / "x.jsonl", "\n".join(lines).encode())
    reader = reader_of(JSONLines(), file, columns=["t"], kept=())
    assert table_of(reader, file).to_pydict() == {"t": texts}
    assert failures_of(reader, file) == {}


def test_line_that_is_null_does_not_decide_about_columns(tmp_path):
    file = listed(tmp_path / "x.jsonl", b'null\n{"a": 1}\n \nnull\n{"a": 2} null {"b": 3}\n')
    reader = reader_of(JSONLines(), file)
    assert table_of(reader, file).to_pydict() == {"a": [None, 1, None, None]}
    assert failures_of(reader, file).keys() == {0, 2, 3}


def test_object_over_several_lines_is_as_many_bad_lines(tmp_path):
    content = b'{"n": 1}\n{"n": 2}{"n": 3}\n{"n":\n4}\n \n{"n": 5}\n'
    file = listed(tmp_path / "x.jsonl", content)
    reader = reader_of(JSONLines(), file)
    assert table_of(reader, file)["n"].to_pylist() == [1, None, None, None, 5]
    assert failures_of(reader, file).keys() == {1, 2, 3}


def test_keys_that_nobody_takes_may_come_and_go(tmp_path):
    file = listed(tmp_path / "x.jsonl", b'{"n": 1, "o": {"a": 1}}\n{"n": 2, "o": 3, "new": []}\n')
    reader = reader_of(JSONLines(), file, columns=["n"])
    assert table_of(reader, file)["n"].to_pylist() == [1, 2]
    assert failures_of(reader, file) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"\n",
            (
                "{path} is empty, and so is every other file, so nothing says which columns there "
                "are. Name them in JSONLines.types, or leave out the files."
            ),
        ),
        (
            b"x,y\n1,2\n",
            (
                "Cannot read {path} as JSON Lines: none of its first lines is a JSON object with a "
                "key. It begins with 'x,y'. Write each record as an object into a line of its own."
            ),
        ),
        (
            b'{"o": {"a": 1}}\n',
            (
                "Column 'o' holds struct<a: int64>, which a tf.Example has no place for. Leave it "
                "out with columns=, which names the columns that the model sees."
            ),
        ),
    ],
    ids=["empty", "something else", "nested"],
)
def test_file_whose_columns_are_not_clear_is_an_error(tmp_path, content, message):
    file = listed(tmp_path / "x.jsonl", content)
    with pytest.raises(InputError, match=exactly(message.format(path=file.path))):
        reader_of(JSONLines(), file)


@pytest.mark.parametrize("kind", ["number", "float16", "list<list<int64>>", 1])
def test_wrong_types_are_refused(kind):
    own = kind[5:-1] if str(kind).startswith("list") else kind
    lists = "" if own != kind else ", list<float32>"
    message = (
        f"JSONLines.types gives column 'n' the type {own!r}, which is none. Use one of int64, "
        f"int32, float32, float64, bool, text, bytes, date32, timestamp[us]{lists}."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        JSONLines({"n": kind})
