from __future__ import annotations

import sys

import pytest

from bulk_inferencer import _extras
from bulk_inferencer.errors import MissingExtraError
from tests.helpers import exactly


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.module", "json.no_such"])
def test_module_that_is_not_installed_names_its_extra(module):
    message = (
        f"VertexEndpoint needs {module}, which is not installed. Install it with: "
        f"pip install 'bulk-inferencer[vertex]'"
    )
    with pytest.raises(MissingExtraError, match=exactly(message)):
        _extras.require(module, "vertex", "VertexEndpoint")


def test_installed_module_is_not_imported():
    sys.modules.pop("this", None)
    _extras.require("this", "tfx", "A component")
    assert "this" not in sys.modules
