"""The notebooks run from top to bottom, and hold what a run prints and shows.

After a change of one, in an environment of TFX 1.16, whose libraries are quieter:

    .venv/bin/jupyter execute --inplace notebooks/*.ipynb
"""

from __future__ import annotations

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell):
    """Returns the lines that a cell printed, sorted, since Beam promises no order."""
    streams = [output for output in cell.outputs if output.get("name") == "stdout"]
    return sorted("".join(stream.text for stream in streams).splitlines())


def shown(cell):
    """Returns what a cell shows: each object's plain text and HTML."""
    return [dict(output.data) for output in cell.outputs if "data" in output]


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["five_times_table.ipynb", "run_inference.ipynb"]


@every_notebook
def test_notebook_opens_with_the_outputs_of_one_run_and_nothing_of_its_machine(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.name for output in outputs if "name" in output} == {"stdout"}  # no warnings
    assert "error" not in {output.output_type for output in outputs}
    texts = [output.text for output in outputs if "text" in output]
    texts += [text for cell in cells for own in shown(cell) for text in own.values()]
    paths_and_addresses = re.compile(r"(^|[\s'\">])/\w+/| at 0x")
    assert [text for text in texts if paths_and_addresses.search(text)] == []
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert {name for cell in cells for name in cell.metadata} == set()  # such as times


@pytest.mark.slow
@every_notebook
def test_notebook_prints_and_shows_what_it_holds(path, tmp_path):
    committed = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources=resources
    ).execute()
    for cell, expected in zip(code_cells(notebook), code_cells(committed), strict=True):
        assert printed(cell) == printed(expected), cell.source
        assert shown(cell) == shown(expected), cell.source
