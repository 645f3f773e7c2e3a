"""The snippets of the pages in docs/ run, in order, and print what the pages say."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from bulk_inferencer import PythonModel
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer.errors import SettingsError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (
    *("beam.md", "component.md", "engines.md", "index.md", "models.md", "notebooks.md"),
    *("prediction_gate.md", "preprocessing.md", "report.md", "several_models.md", "statistics.md"),
    "tables.md",
)
# By a piece of the snippet, and why it is only compiled.
NOT_RUN = {
    "BulkInferencer(": "it needs a TFX pipeline; tests/components run one",
    "BranchInferencer(": "it needs a TFX pipeline; tests/components run one",
    "CascadeInferencer(": "it needs a TFX pipeline; tests/components run one",
    "latest_results(": "it needs a TFX pipeline; tests/components run one",
    "context.show(": "it needs a notebook; tests/components/test_interactive_context.py has one",
    "dsl.Resolver(": "it needs a TFX pipeline; tests/components run one",
}
every_page = pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))


def text_of(page):
    return (DOCS / page).read_text(encoding="utf-8")


def snippets(page):
    """Yields each Python snippet of a page with the text block after it, or with nothing."""
    text = text_of(page)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert {language for language, _ in blocks} <= {"python", "sh", "text", "yaml"}
    for (language, content), (next_language, next_content) in zip(
        blocks, [*blocks[1:], ("", "")], strict=True
    ):
        if language == "python":
            yield content, next_content if next_language == "text" else ""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_snippets_print_what_the_page_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = {"__name__": "__main__"}
    for name, content in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", text_of(page), re.M | re.S):
        (tmp_path / name).write_text(content)
    for code, expected in snippets(page):
        compiled = compile(code, page, "exec")
        if any(piece in code for piece in NOT_RUN):
            continue
        if file := re.match(r"# (\w+)\.py\n", code):  # what a module holds is imported from there
            (tmp_path / f"{file[1]}.py").write_text(code)
            monkeypatch.delitem(sys.modules, file[1], raising=False)
            continue
        exec(compiled, names)
        # Sorted, since Beam promises no order.
        printed = capsys.readouterr().out
        assert sorted(printed.splitlines()) == sorted(expected.splitlines()), code


@pytest.mark.slow
def test_first_page_leads_to_predictions_and_a_report_by_two_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _ = next(snippets("index.md"))
    exec(compile(code, "index.md", "exec"), {"__name__": "__main__"})
    commands = re.findall(r"^bulk-inferencer (.*)$", text_of("index.md"), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        program = [sys.executable, "-m", "bulk_inferencer", *shlex.split(command)]
        subprocess.run(program, check=True, capture_output=True)
    assert pd.read_parquet("five/prediction_table")["y"].tolist() == [7.5, 12.5, 20.0]
    assert "<html" in Path("report.html").read_text(encoding="utf-8")


# What the loaders of docs/models.md load, as each library saves it.
X = np.float32([[38.9, 181], [39.2, 195], [46.1, 211], [50.0, 230]])
Y = np.array([0, 0, 1, 1])


def save_xgboost(path):
    xgboost = pytest.importorskip("xgboost", reason="XGBoost is not installed")
    xgboost.train({"nthread": 1}, xgboost.DMatrix(X, Y), 1).save_model(path)


def save_onnx(path):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    from sklearn.linear_model import LogisticRegression

    made = skl2onnx.to_onnx(
        LogisticRegression(solver="liblinear").fit(X, Y), X[:1], options={"zipmap": False}
    )
    path.write_bytes(made.SerializeToString())


def save_keras(path):
    import keras

    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)


@pytest.mark.parametrize(
    ("module", "file", "save", "outputs"),
    [
        ("xgboost_model", "m.json", save_xgboost, {"probability": (4,)}),
        ("onnx_model", "m.onnx", save_onnx, {"label": (4,), "probability": (4, 2)}),
        ("keras_model", "m.keras", save_keras, {"y": (4, 1)}),
    ],
)
def test_loaders_of_the_page_load_what_their_libraries_save(
    tmp_path, monkeypatch, module, file, save, outputs
):
    save(tmp_path / file)
    (code,) = [c for c, _ in snippets("models.md") if c.startswith(f"# {module}.py\n")]
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    model = PythonModel(f"{module}:load", tmp_path / file)
    rows = Rows(pa.table({"bill_mm": X[:, 0], "flipper_mm": X[:, 1]}))
    found = model.load(FORMAT_TF_EXAMPLE).predict(rows).outputs
    assert {name: values.shape for name, values in found.items()} == outputs
    sys.modules.pop(module)


def test_snippets_that_are_not_run_are_in_the_pages():
    codes = [code for page in PAGES for code, _ in snippets(page)]
    for piece in NOT_RUN:
        assert [code for code in codes if piece in code], piece


@every_page
def test_linked_files_and_headings_exist(page):
    links = re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", (DOCS / page).read_text(encoding="utf-8"))
    assert links
    for file, anchor in links:
        path = DOCS / (file or page)
        assert path.exists(), file
        assert not anchor or anchor in anchors(path), (file, anchor)


def anchors(path):
    """Returns the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@every_page
def test_page_names_nothing_private(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert not re.search(r"bulk_inferencer[./]([a-z_]+[./])*_", text)


def test_airflow_page_shows_the_errors_that_are_raised(monkeypatch):
    from bulk_inferencer.components import arguments

    page = (DOCS / "airflow.md").read_text(encoding="utf-8")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "3.0.0")
    with pytest.raises(ImportError) as too_new:
        runpy.run_path(str(ROOT / "pipelines/airflow_dag.py"))
    assert f"\nImportError: {too_new.value}\n" in page
    with pytest.raises(SettingsError) as rendered:
        arguments.check_text("data_spec", "{{ ds }}")
    assert f"bulk_inferencer.errors.SettingsError: {rendered.value}\n" in page
