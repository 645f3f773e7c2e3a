from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import pytest

from bulk_inferencer._models import importing
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly

HERE = __name__


def hook(batch):
    return batch


def test_function_may_be_given_itself_or_by_its_name():
    assert importing.function("preprocess", hook) is hook
    assert importing.function("preprocess", f"{HERE}:hook") is hook


def test_function_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_hooks.py").write_text("raise OSError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    for name, cause in {
        "no_such_module:f": "No module named 'no_such_module'",
        f"{HERE}:no_such_function": f"module '{HERE}' has no attribute 'no_such_function'",
        HERE: f"module '{HERE}' has no attribute ''",
        "": "Empty module name",
        "broken_hooks:f": "undefined symbol",
    }.items():
        message = (
            f"Could not import preprocess {name!r}: {cause}. Name the function as "
            f"package.module:function, and install its module on every worker."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            importing.function("preprocess", name)


def test_value_that_is_not_a_function_is_refused():
    for value, kind in ((f"{HERE}:HERE", "str"), (7, "int"), (pytest, "module")):
        message = (
            f"preprocess must be a function, but {value!r} is of type {kind}. Pass a function, or "
            f"name one as package.module:function."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            importing.function("preprocess", value)


def test_origin_of_a_function_is_its_name_file_and_digest():
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert importing.origin(hook) == f"{HERE}.hook from {__file__}, SHA-256 {digest}"
    assert importing.origin(functools.partial(hook)) == (
        "functools.partial, whose source is not known"
    )
