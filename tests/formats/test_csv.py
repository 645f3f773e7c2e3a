"""CSV: types, headers, settings, and what is said of rows and files that are not as they should."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest

from bulk_inferencer._formats.csv import CSV
from bulk_inferencer.errors import InputError, SettingsError
from tests.formats.reading import chunks_of, failures_of, listed, reader_of, table_of
from tests.helpers import exactly


def read(path, content, input_format=CSV(), **choice):  # noqa: B008
    file = listed(path / "x.csv", content)
    return table_of(reader_of(input_format, file, **choice), file)


def test_types_are_told_by_the_first_rows(tmp_path):
    content = (
        b"whole,float,flag,text,day,second,moment,hour,empty,latin\n"
        b"1,1.5,true,a,2024-01-02,2024-01-02 03:04:05,2024-01-02 03:04:05.25,03:04:05,,\xe4\n"
    )
    file = listed(tmp_path / "x.csv", content)
    reader = reader_of(CSV(), file)
    assert {field.name: str(field.type) for field in reader.schema} == {
        "whole": "int64",
        "float": "double",
        "flag": "bool",
        "text": "string",
        "day": "date32[day]",
        "second": "timestamp[us]",
        "moment": "timestamp[ns]",
        "hour": "string",
        "empty": "string",
        "latin": "string",
    }
    assert list(failures_of(reader, file)) == [0]  # It is not UTF-8.


@pytest.mark.parametrize("bad", [b"\0", b"bad,b,c", b"bad"])
def test_rows_that_cannot_be_read_do_not_decide_about_types(tmp_path, bad):
    file = listed(tmp_path / "x.csv", b'x,id\n1,a\n%s\n2.5,"b"\n' % bad)
    reader = reader_of(CSV(), file)
    assert table_of(reader, file).to_pydict() == {"x": [1, None, 2.5], "id": ["a", None, "b"]}
    assert failures_of(reader, file).keys() == {1}


def test_types_can_be_set(tmp_path):
    types = {"zip": "text", "x": "float32", "raw": "bytes", "t": "timestamp[us]", "n": "int64"}
    content = b"zip,x,raw,t,n\n01234,1,\xe4,2024-01-02,\n"
    table = read(tmp_path, content, CSV(types=types))
    assert table.to_pylist() == [
        {
            "zip": "01234",
            "x": 1.0,
            "raw": b"\xe4",
            "t": datetime.datetime(2024, 1, 2),
            "n": None,
        }
    ]
    assert table.schema.field("x").type == pa.float32()


def test_other_files_may_make_floats_of_whole_numbers_but_no_text(tmp_path):
    contents = [b"", b"a,b,c\n1,1,\n", b"c,b,a\n5,x,1.5\n", b"a,b,c\n"]
    files = [listed(tmp_path / f"{i}.csv", content) for i, content in enumerate(contents)]
    reader = reader_of(CSV(), *files)
    assert reader.schema.types == [pa.float64(), pa.int64(), pa.int64()]
    assert table_of(reader, *files).to_pylist() == [
        {"a": 1.0, "b": 1, "c": None},
        {"a": None, "b": None, "c": None},
    ]


def test_bad_rows_are_named_with_their_reasons(tmp_path):
    rows = [
        b"1,a",
        b"1.5,b",
        b"2",
        b"3,c,d",
        b"4,\xe4",
        b"5,x\0y",
        b"99999999999999999999,e",
        b"8,f" + b"f" * 200 + b",g",
        b'7,"quoted, ""text"""',
    ]
    file = listed(tmp_path / "x.csv", b"n,text\n" + b"\n".join(rows))
    reader = reader_of(CSV(types={"n": "int64"}), file)
    assert failures_of(reader, file) == {
        1: "Column 'n' holds '1.5', which is no int64.",
        2: "The row has 1 value, but there are 2 columns: '2'",
        3: "The row has 3 values, but there are 2 columns: '3,c,d'",
        4: "Column 'text' holds bytes that are not UTF-8. Convert the file, or give the column the "
        "type \"bytes\" in CSV.types: '4,\ufffd'",
        5: "The row has a NUL character, which no text has: b'5,x\\x00y'",
        6: "Column 'n' holds '99999999999999999999', which is no int64.",
        7: f"The row has 3 values, but there are 2 columns: '8,{'f' * 97}...",
    }
    table = table_of(reader, file)
    assert table.take([0, 8]).to_pylist() == [
        {"n": 1, "text": "a"},
        {"n": 7, "text": 'quoted, "text"'},
    ]
    assert {tuple(row.values()) for row in table.slice(1, 7).to_pylist()} == {(None, None)}


@pytest.mark.parametrize("most", [8, 1 << 20])
@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (b'9,"a\nb,7\nzz",3\n', '9,"a'),  # of which a row `b,7` would be made up
        (b'9,"a\nb"\n3,c\n', '9,"a'),
        (b'"9\r\n",c\n', '"9'),
        (b'9,5"\n8,"open\0', '8,"open\0'),
    ],
)
def test_quoted_value_that_does_not_end_in_its_line_is_damage(tmp_path, rows, line, most):
    file = listed(tmp_path / "x.csv", b'n,t\n1,"x"\n2\n' + rows)
    reader = reader_of(CSV(types={"n": "int64", "t": "text"}), file)
    good, chunks = [], reader.read(file, most, 1 << 20)
    message = (
        f"Cannot read {file.path} as CSV: a line has a quote that opens a value, and none that "
        f"closes it: {line!r} (after row {3 if '8' in line else 2}). If values hold line breaks, "
        f"set CSV(newlines_in_values=True). If not, correct the line."
    )
    with pytest.raises(InputError, match=exactly(message)):
        good.extend(row for chunk in chunks for row in chunk.records.source.to_pylist())
    assert good[:2] == [{"n": 1, "t": "x"}, {"n": None, "t": None}]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ((2**53 + 1, 2**64 - 1), pa.uint64(), [2**53 + 1, 2**64 - 1]),
        ((2**53 + 1, "", " 0"), pa.int64(), [2**53 + 1, None, 0]),
        ((2**53 + 1, 2**64), pa.string(), [str(2**53 + 1), str(2**64)]),
        ((-(2**53) - 1, 2**63), pa.string(), [str(-(2**53) - 1), str(2**63)]),
        ((2**53 + 1, 0.5), pa.string(), [str(2**53 + 1), "0.5"]),
        ((2**53, 0.5, "0.1234567890123456789"), pa.float64(), [2.0**53, 0.5, 0.12345678901234568]),
    ],
)
@pytest.mark.parametrize("are_apart", [False, True])
def test_no_whole_number_is_rounded(tmp_path, values, kind, expected, are_apart):
    groups = [[value] for value in values] if are_apart else [values]
    files = [
        listed(tmp_path / f"{i}.csv", "\n".join(["x,y", *(f"{v},a" for v in own)]).encode())
        for i, own in enumerate(groups)
    ]
    reader = reader_of(CSV(), *files)
    assert reader.schema.field("x").type == kind
    assert table_of(reader, *files)["x"].to_pylist() == expected


def test_first_file_decides_about_floats_even_if_another_has_text(tmp_path):
    one = listed(tmp_path / "1.csv", b"x\n1.5\n%d\n" % (2**53 + 1))
    two = listed(tmp_path / "2.csv", b"x\n\xe4\n")
    reader = reader_of(CSV(), one, two)
    assert table_of(reader, one, two)["x"].to_pylist() == ["1.5", str(2**53 + 1), None]


def test_quote_that_nothing_closes_makes_one_bad_row(tmp_path):
    file = listed(tmp_path / "x.csv", b'n,text\n1,"a\nb"\n,,\n2,"open\n3,c\n')
    reader = reader_of(CSV(newlines_in_values=True), file)
    failures = failures_of(reader, file)
    assert failures == {
        1: "The row has 3 values, but there are 2 columns: ',,'",
        2: "A quote opens a value, and none closes it: '2,\"open\\n3,c\\n'",
    }


def test_bad_value_in_a_column_that_nobody_takes_is_no_failure(tmp_path):
    file = listed(tmp_path / "x.csv", b"n,x\n1,2\noops,3\n")
    reader = reader_of(CSV(types={"n": "int64"}), file, columns=["x"], kept=())
    assert table_of(reader, file).to_pydict() == {"x": [2, 3]}
    assert failures_of(reader, file) == {}


@pytest.mark.parametrize(
    ("content", "input_format", "expected"),
    [
        (b"1;x\n2;y\n", CSV(delimiter=";", header=False), {"f0": [1, 2], "f1": ["x", "y"]}),
        (b"1,x\n2,y\n", CSV(header=False, names=("n", "t")), {"n": [1, 2], "t": ["x", "y"]}),
        (b"a,a\n2,y\n", CSV(names=("n", "t")), {"n": [2], "t": ["y"]}),
        (b"\xef\xbb\xbfn\tt\r\n\r\n1\t'x\ty'\r\n", CSV("\t", "'"), {"n": [1], "t": ["x\ty"]}),
        (b'n,t\n1,"x\n', CSV(quote=""), {"n": [1], "t": ['"x']}),
        (b"n,t\nNA,NA\n-1,\n", CSV(), {"n": [None, -1], "t": ["NA", ""]}),
        (
            b"n,t\nNA,x\n?,y\n",
            CSV(null_values=("NA", "?"), types={"n": "int64"}),
            {"n": [None] * 2},
        ),
        (b'"n, m",t\n1,x', CSV(), {"n, m": [1], "t": ["x"]}),
        (b"n\n\n1\n\n\n2\n\n", CSV(), {"n": [1, 2]}),
        (b"n,t\r1,x\r2,y", CSV(), {"n": [1, 2], "t": ["x", "y"]}),
        (b"n,t", CSV(), {"n": [], "t": []}),
        (b"", CSV(names=("n",), types={"n": "int64"}), {"n": []}),
    ],
    ids=[
        "no header",
        "names",
        "names instead of a header",
        "tabs, quotes, BOM, CRLF",
        "no quotes",
        "null",
        "other nulls",
        "quoted header",
        "blank lines",
        "old line ends",
        "only a header",
        "empty with names",
    ],
)
def test_settings_say_how_to_read(tmp_path, content, input_format, expected):
    table = read(tmp_path, content, input_format)
    assert {name: table[name].to_pylist() for name in expected} == expected


@pytest.mark.parametrize(
    ("content", "input_format", "message"),
    [
        (
            b"n,n\n1,2\n",
            CSV(),
            "{path} has several columns named n. Each column needs a name of its own.",
        ),
        (
            b"\n",
            CSV(),
            (
                "{path} is empty, and so is every other file, so nothing says which columns there "
                "are. Name them in CSV.names, or leave out the files."
            ),
        ),
        (
            "n,t\n1,x\n".encode("utf-16"),
            CSV(),
            (
                "Cannot read {path} as CSV: its first line has NUL characters (at its start). "
                "Write the file in UTF-8, which UTF-16 is not."
            ),
        ),
        (
            b'n,"a\nb"\n1,2\n',
            CSV(),
            (
                "Cannot read {path} as CSV: a line has a quote that opens a value, and none that "
                "closes it: 'n,\"a' (at its start). If values hold line breaks, set "
                "CSV(newlines_in_values=True). If not, correct the line."
            ),
        ),
        (
            b"n,\xe4\n1,2\n",
            CSV(),
            (
                "Cannot read {path} as CSV: its header is not UTF-8: b'n,\\xe4' (at its start). "
                "Convert the file to UTF-8."
            ),
        ),
        (
            b"1,2,3\n",
            CSV(names=("a", "b")),
            (
                "Cannot read {path} as CSV: its first line has 3 values, but CSV.names has 2 (at "
                "its start). Name each column."
            ),
        ),
        (
            b"price,t\n1,x\n",
            CSV(types={"prize": "float32"}),
            (
                "CSV.types names the column 'prize', but {path} has price, t. Did you mean "
                "'price'? Correct it."
            ),
        ),
    ],
    ids=["doubled", "empty", "UTF-16", "line break", "latin-1", "names", "types"],
)
def test_file_whose_columns_are_not_clear_is_an_error(tmp_path, content, input_format, message):
    with pytest.raises(InputError, match=exactly(message.format(path=tmp_path / "x.csv"))):
        read(tmp_path, content, input_format)


def test_file_with_other_columns_is_an_error(tmp_path):
    one = listed(tmp_path / "1.csv", b"b,a\n1,2\n")
    two = listed(tmp_path / "2.csv", b"a,b,c\n1,2,3\n")
    advice = "Write it into all files, or leave it out with columns=, which names the others."
    message = (
        f"Cannot read {one.path} as CSV: it has no column 'c', which other files have (at its "
        f"start). {advice}"
    )
    with pytest.raises(InputError, match=exactly(message)):
        reader_of(CSV(), one, two)
    # Of many files, only some are looked at before they are read.
    message = (
        f"Cannot read {two.path} as CSV: it has a column 'c', which other files do not have "
        f"(after row 0). {advice}"
    )
    with pytest.raises(InputError, match=exactly(message)):
        chunks_of(reader_of(CSV(), one), two)
    assert table_of(reader_of(CSV(), one, two, columns=["a"], kept=()), one, two).num_rows == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delimiter": ""}, "CSV.delimiter must be an ASCII character, and no line break, not ''."),
        (
            {"delimiter": "ä"},
            "CSV.delimiter must be an ASCII character, and no line break, not 'ä'.",
        ),
        (
            {"quote": "\n"},
            "CSV.quote must be an ASCII character or '', and no line break, not '\\n'.",
        ),
        ({"quote": ","}, "CSV.delimiter and CSV.quote are both ','. Change one of them."),
        ({"header": 1}, "CSV.header must be True or False, not 1."),
        (
            {"newlines_in_values": "no"},
            "CSV.newlines_in_values must be True or False, not 'no'.",
        ),
        ({"names": "n"}, "CSV.names must be a tuple of names, not 'n'. Write ('n',)."),
        ({"names": ("n", "n")}, "CSV.names holds n twice. Each column needs its own name."),
        (
            {"null_values": "NA"},
            "CSV.null_values must be a tuple of names, not 'NA'. Write ('NA',).",
        ),
        (
            {"types": ["text"]},
            (
                "CSV.types must hold the type of each column by its name, not ['text']. Write "
                '{"column": "float32"}.'
            ),
        ),
        (
            {"types": {"n": "number"}},
            (
                "CSV.types gives column 'n' the type 'number', which is none. Use one of int64, "
                "int32, float32, float64, bool, text, bytes, date32, timestamp[us]."
            ),
        ),
        (
            {"names": ("n",), "types": {"m": "text"}},
            "CSV.types names 'm', which CSV.names does not.",
        ),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        CSV(**settings)
