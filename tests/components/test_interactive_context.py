"""The components in a notebook, run by InteractiveContext in a kernel of its own."""

from __future__ import annotations

import re

import nbclient
import nbformat
import pytest

pytestmark = pytest.mark.slow

CELLS = (
    """
    import warnings; warnings.simplefilter("ignore")
    from tfx import v1 as tfx
    from tfx.orchestration.experimental.interactive.interactive_context import InteractiveContext
    from tfx.types.standard_artifacts import Examples, Model

    context = InteractiveContext(pipeline_root="root")

    def imported(name, kind, uri, **properties):
        node = tfx.dsl.Importer(source_uri=uri, artifact_type=kind, properties=properties)
        context.run(node.with_id(name))
        return node.outputs["result"]

    examples = imported("examples", Examples, {examples!r}, split_names='["train", "unlabelled"]')
    five = imported("five", Model, {five!r})
    ten = imported("ten", Model, {ten!r})
    """,
    """
    from bulk_inferencer import BulkInferencer, read_predictions

    inferencer = BulkInferencer(examples=examples, model_export=five)
    context.run(inferencer)
    (result,) = inferencer.outputs["inference_result"].get()
    print(sorted(p.outputs["y"].item() for p in read_predictions(result.uri, "unlabelled")))
    """,
    """
    from bulk_inferencer import BranchInferencer

    branch = BranchInferencer(examples=examples, models={{"five": five, "ten": ten}})
    context.run(branch)
    for name in ("five", "ten"):
        (result,) = branch.outputs[name].get()
        print(name, sorted(p.outputs["y"].item() for p in read_predictions(result.uri)))
    """,
    """
    for name in ("ten", "summary", "comparison"):
        context.show(branch.outputs[name])
    """,
)


def titles(cell):
    """Returns the headings of what a cell displays, without TFX's own."""
    pages = "".join(output.data["text/html"] for output in cell.outputs if "data" in output)
    return re.findall("<p><b>(.*?)</b></p>", pages)


def test_components_run_and_are_shown_in_a_notebook(examples_uri, model_uri, ten_uri, tmp_path):
    uris = {"examples": examples_uri, "five": model_uri, "ten": ten_uri}
    notebook = nbformat.v4.new_notebook()
    for cell in CELLS:
        lines = [line.removeprefix("    ") for line in cell.strip("\n").splitlines()]
        notebook.cells.append(nbformat.v4.new_code_cell("\n".join(lines).format(**uris)))
    resources = {"metadata": {"path": str(tmp_path)}}

    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()

    printed = [
        "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
        for cell in notebook.cells[1:3]
    ]
    assert printed == [
        "[50.0, 55.0]\n",
        "five [0.0, 5.0, 10.0, 50.0, 55.0]\nten [0.0, 10.0, 20.0, 100.0, 110.0]\n",
    ]
    results = "Results of root/BranchInferencer/ten/5"
    assert titles(notebook.cells[3]) == [
        f"{results}: 5 predicted, 0 failed, gate: no_blessing, model: ten",
        "Summary: 10 predicted, 0 failed, gate: no_blessing, models: five, ten",
        "Statistics of 2 models, 1 output, 0 failed",
        "Comparison of five and ten",
    ]
