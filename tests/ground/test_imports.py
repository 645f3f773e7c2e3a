import gc
import sys

import pytest

from bulk_inferencer._imports import import_large

LIBRARY = "a_large_library"


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Returns a function that makes a library with this code."""
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda code: (tmp_path / f"{LIBRARY}.py").write_text(f"import gc\n{code}\n")
    sys.modules.pop(LIBRARY, None)
    gc.unfreeze()
    gc.enable()


def test_the_garbage_collector_leaves_out_a_large_library(library):
    library("was_collecting = gc.isenabled(); frozen_before = gc.get_freeze_count()")
    import_large(LIBRARY)
    made = sys.modules[LIBRARY]
    assert not made.was_collecting
    assert gc.isenabled()
    assert gc.get_freeze_count() > made.frozen_before


def test_the_garbage_collector_works_on_after_a_library_that_cannot_be_imported(library):
    library("raise ValueError('broken')")
    with pytest.raises(ValueError, match="broken"):
        import_large(LIBRARY)
    assert gc.isenabled()


def test_a_garbage_collector_that_somebody_switched_off_stays_off(library):
    library("")
    gc.disable()
    import_large(LIBRARY)
    assert not gc.isenabled()
    assert gc.get_freeze_count() == 0
