"""Modules of users that are imported from memory."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
import zipfile

import pytest

from bulk_inferencer.engines.modules import make_importable, read_modules
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly


@pytest.fixture
def forgets_modules():
    """Forgets what a test has imported from memory."""
    finders, modules = list(sys.meta_path), dict(sys.modules)
    yield
    sys.meta_path[:] = finders
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]


def imported(name, sources, run="1"):
    make_importable({path: source.encode() for path, source in sources.items()}, run)
    return importlib.import_module(name)


# What is read


def test_modules_are_read_from_files_and_wheels(tmp_path):
    (tmp_path / "hooks.py").write_text("A = 1")
    with zipfile.ZipFile(tmp_path / "ours-1.0.whl", "w") as wheel:
        wheel.writestr("ours/__init__.py", "")
        wheel.writestr("ours/deep/table.py", "B = 2")
        wheel.writestr("ours-1.0.dist-info/METADATA", "Name: ours")
    found = read_modules([f"{tmp_path}/hooks.py", f"{tmp_path}/ours-1.0.whl"])
    assert found == {"hooks.py": b"A = 1", "ours/__init__.py": b"", "ours/deep/table.py": b"B = 2"}


def test_wheel_with_compiled_modules_is_refused(tmp_path):
    path = tmp_path / "ours-1.0.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("ours/__init__.py", "")
        wheel.writestr("ours/fast.abi3.so", "")
    message = (
        f"InferenceJob.modules has {path}, in which ours/fast.abi3.so is compiled. Workers import "
        f"modules from memory, which only sources can be. Install the package on every worker."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        read_modules([str(path)])


def test_files_of_a_wheel_that_stay_behind_are_named(tmp_path, caplog):
    path = tmp_path / "ours-1.0.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("ours/", "")
        wheel.writestr("ours/__init__.py", "A = 1")
        wheel.writestr("ours/vocabulary.txt", "a b c")
    assert read_modules([str(path)]) == {"ours/__init__.py": b"A = 1"}
    message = (
        f"Only the Python sources of {path} go to workers. It has other files, such as "
        f"ours/vocabulary.txt. If the code reads them, install the package on every worker."
    )
    assert caplog.messages == [message]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["gone.py"], "There is no module {0}/gone.py. Correct InferenceJob.modules."),
        (
            ["text.txt"],
            (
                "InferenceJob.modules needs Python files or wheels, but has {0}/text.txt. Name the "
                ".py files, or install the package on every worker."
            ),
        ),
        (
            ["a/hooks.py", "b/hooks.py"],
            (
                "InferenceJob.modules has hooks.py twice, the second time in {0}/b/hooks.py. Leave "
                "one out."
            ),
        ),
        (
            ["wrong.py"],
            (
                "InferenceJob.modules has {0}/wrong.py, which cannot be imported: invalid syntax "
                "(wrong.py, line 1). Mend it."
            ),
        ),
        (
            ["wrong.whl"],
            (
                "InferenceJob.modules has {0}/wrong.whl, which cannot be imported: File is not a "
                "zip file. Mend it."
            ),
        ),
    ],
    ids=["missing", "of another kind", "twice", "syntax", "damaged"],
)
def test_what_cannot_be_shipped_is_named(tmp_path, names, message):
    for name in ("text.txt", "a/hooks.py", "b/hooks.py", "wrong.py", "wrong.whl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1 +* 2" if "wrong" in name else "A = 1")
    with pytest.raises(SettingsError, match=exactly(message.format(tmp_path))):
        read_modules([f"{tmp_path}/{name}" for name in names])


# What is imported

pytestmark = pytest.mark.usefixtures("forgets_modules")
FAILING = "def fail(x):\n    # a comment\n    raise ValueError(x)\n"


def test_packages_import_their_modules_and_each_other():
    sources = {
        "ours/__init__.py": "from .deep import table\nfrom . import names\n",
        "ours/names.py": "import single\nNAME = single.NAME",
        "ours/deep/__init__.py": "",
        "ours/deep/table.py": "from ..names import NAME\nROWS = [NAME]",
        "single.py": "NAME = 'single'",
    }
    ours = imported("ours", sources)
    assert ours.deep.table.ROWS == ["single"]
    assert ours.__path__ == ["/<modules>/ours"]
    assert importlib.import_module("ours.deep.table").__package__ == "ours.deep"
    with pytest.raises(ModuleNotFoundError, match=exactly("No module named 'ours.other'")):
        importlib.import_module("ours.other")


def test_errors_show_the_lines_of_a_module_that_is_on_no_disk():
    module = imported("failing", {"failing.py": FAILING})
    assert inspect.getsource(module.fail) == FAILING
    with pytest.raises(ValueError, match=r"^1$") as caught:
        module.fail(1)
    shown = "".join(traceback.format_exception(caught.value))
    assert 'File "/<modules>/failing.py", line 3, in fail\n    raise ValueError(x)\n' in shown


def test_package_without_init_is_found_and_hides_no_other(tmp_path, monkeypatch):
    (tmp_path / "spread/installed.py").parent.mkdir()
    (tmp_path / "spread/installed.py").write_text("A = 1")
    monkeypatch.syspath_prepend(tmp_path)
    installed = importlib.import_module("spread.installed")
    sources = {"spread/shipped.py": "B = 2", "alone/deep/shipped.py": "C = 3"}
    assert imported("spread.shipped", sources).B == 2
    assert importlib.import_module("spread.installed") is installed
    assert importlib.import_module("alone.deep.shipped").C == 3


def test_next_run_has_modules_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "hooks.py").write_text("A = 'installed'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hooks", raising=False)  # of another test
    assert importlib.import_module("hooks").A == "installed"
    shipped = {"hooks.py": "A = 'shipped'", "ours/__init__.py": "", "ours/one.py": ""}
    first = imported("hooks", shipped)
    importlib.import_module("ours.one")
    assert first.A == "shipped"
    # The same run, for a worker that needs all of them, some, or none.
    for sources in (shipped, {"hooks.py": "A = 'shipped'"}, {}):
        assert imported("hooks", sources) is first
    assert imported("hooks", {"hooks.py": "A = 'shipped later'"}, "2").A == "shipped later"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("ours.one")
    assert imported("hooks", {}, "3").A == "installed"


def test_process_that_ships_nothing_is_left_as_it_is():
    finders = list(sys.meta_path)
    make_importable({}, "1")
    assert sys.meta_path == finders
