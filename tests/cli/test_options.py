"""Values of options."""

from __future__ import annotations

import click
import pytest

from bulk_inferencer import CSV, JSONLines
from bulk_inferencer.cli.inputs import _Columns, inputs_of, reading_of
from bulk_inferencer.cli.options import Bytes, Names, Pair, by_name
from tests.helpers import exactly


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Names(), "a, b", ("a", "b")),
        (Names(), '"a,b",c', ("a,b", "c")),
        (Names(), "", ()),
        (Pair("A", "B"), "x=a=b", ("x", "a=b")),
        (Bytes(), "4096", 4096),
        (Bytes(), "16MiB", 16 << 20),
        (Bytes(), "1.5 MB", 1_500_000),
        (_Columns(), "a,b", ("a", "b")),
        (_Columns(), "x=a", ("x", "a")),
        (_Columns(), "x=a,b", ("x", ["a", "b"])),
    ],
)
def test_text_becomes_a_value(kind, text, expected):
    assert kind.convert(text, None, None) == expected


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Pair("COLUMN", "NAME"), "a", "'a' is not of the form COLUMN=NAME."),
        (Bytes(), "16 apples", "'16 apples' is no number of bytes, such as 4194304 or 4MiB."),
        (_Columns(), "x=", "'x=' is neither COLUMN,COLUMN nor INPUT=COLUMN,COLUMN."),
    ],
)
def test_text_that_is_no_value_is_refused(kind, text, message):
    with pytest.raises(click.BadParameter, match=exactly(message)):
        kind.convert(text, None, None)


def test_name_that_is_there_twice_is_refused():
    message = "--rename names 'a' twice. Name it once."
    with pytest.raises(click.UsageError, match=exactly(message)):
        by_name("--rename", [("a", "x"), ("a", "y")])


def reading(**given):
    default = {
        "format": None,
        "types": (),
        "delimiter": None,
        "columns": (),
        "rename": (),
        "record_format": "tf_example",
    }
    return reading_of({**default, **given})[0]


def test_options_of_inputs_become_arguments():
    columns = [_Columns().convert(text, None, None) for text in ("a", "x=b,c")]
    assert reading(columns=columns)["columns"] == {"a": "a", "x": ["b", "c"]}
    assert reading(columns=columns[:1])["columns"] == ("a",)
    assert reading(record_format="bytes")["record_format"] == "FORMAT_PROTO"
    assert reading(format="parquet")["input_format"] == "parquet"
    own = reading(format="csv", types=(("zip", "text"),), delimiter="tab")["input_format"]
    assert own == CSV(types={"zip": "text"}, delimiter="\t")
    own = reading(format="json_lines", types=(("zip", "text"),))["input_format"]
    assert own == JSONLines(types={"zip": "text"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"types": (("zip", "text"),)},
         "--type needs --format csv or --format json_lines beside it."),
        ({"delimiter": ";", "format": "parquet"}, "--delimiter needs --format csv beside it."),
    ],
)  # fmt: skip
def test_option_of_another_format_is_refused(given, message):
    with pytest.raises(click.UsageError, match=exactly(message)):
        reading(**given)


def test_files_of_a_split_come_together():
    splits = inputs_of((), (("a", "1"), ("b", "2"), ("a", "3")))
    assert splits == {"a": ["1", "3"], "b": ["2"]}
    assert inputs_of(("1", "2"), ()) == {"inputs": ["1", "2"]}
    message = "There are no INPUTS. Name files, folders or patterns to score."
    with pytest.raises(click.UsageError, match=exactly(message)):
        inputs_of((), ())


def test_empty_text_is_no_value_of_an_option_unless_that_takes_names(call):
    said = "it is empty text. Correct it, or leave it out."
    for option in ("--expectations", "--baseline", "--blessing", "-o"):
        code, _, err = call("predict", "m", "data", f"{option}=" if len(option) > 2 else option, "")
        assert (code, err.splitlines()[-1].partition(": it")[2]) == (2, said[2:]), option
    assert call("predict", "m", "")[2].endswith(f"Invalid value for '[INPUTS]...': {said}\n")
