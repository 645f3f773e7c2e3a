"""Results of each kind of run, made once; nothing changes them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer import (
    BatchBounds,
    Branch,
    CascadeModel,
    Comparing,
    ExitWhen,
    FailureLimit,
    InferenceJob,
    Outputs,
    PythonModel,
    SplitRouting,
    Stage,
    predict,
    results,
    run,
)
from bulk_inferencer._gate import NOT_BLESSED, Decision

KINDS = np.array(["<script>alert(1)</script>", "$$x^2$$", "\u2028small", "l" + "o" * 150 + "ng"])
NASTY = "</script><script>alert(2)</script>"
LONG = "name_that_" + "never_" * 10 + "ends"
LIMITS = {"failure_limit": FailureLimit(max_fraction=0.5), "bounds": BatchBounds(max_records=100)}
REASON = "it says that <b>this model</b> is worse"


def model(shift):
    """Returns a model of all kinds of outputs; it fails on `x` below 0."""

    def score(features):
        x = features["x"]
        if (x < 0).any():
            raise ValueError(f"x is below 0 {NASTY}")
        y = (5 * x + shift).astype(np.float32)
        y[x == 3] = np.nan
        p = np.stack([x % 7, x % 5 + shift, x % 3], 1).astype(np.float32)
        kind = KINDS[(x + shift).astype(int) % len(KINDS)]
        return {"y": y, "p": p, "kind": kind, "is_big": x > 50 + shift, f"<b>&{LONG}": x}

    return score


def five(path):
    return model(0)


def ten(path):
    return model(2)


def table(count=200):
    x = np.arange(count, dtype=np.float64)
    x[7::50] = -1
    text = np.array([f"user {i}" for i in range(count)], object)
    text[0] = NASTY
    return pa.table({"user": text, "x": x})


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Splits `train` and `eval` in a folder with a name of its own."""
    folder = tmp_path_factory.mktemp("in") / f"<i>&{LONG}"
    folder.mkdir()
    pq.write_table(table(), folder / "train.parquet")
    pq.write_table(table(60), folder / "eval.parquet")
    return {"train": f"{folder}/train.parquet", "eval": f"{folder}/eval.parquet"}


@pytest.fixture(scope="session")
def single(inputs, tmp_path_factory):
    """A single model without a name."""
    return predict(model(0), inputs, tmp_path_factory.mktemp("single") / "out", **LIMITS)


@pytest.fixture(scope="session")
def earlier(inputs, tmp_path_factory):
    """An earlier run of another model."""
    return predict(model(2), inputs, tmp_path_factory.mktemp("earlier") / "out", **LIMITS)


@pytest.fixture(scope="session")
def closed(inputs, tmp_path_factory):
    """A model that was not allowed to run."""
    gate = Decision(NOT_BLESSED, REASON)
    return predict(model(0), inputs, tmp_path_factory.mktemp("closed") / "out", gate=gate)


@pytest.fixture(scope="session")
def cascade(inputs, tmp_path_factory):
    """Two stages; the first one settles what is small."""
    small = Stage("small", PythonModel(five), exit_when=[ExitWhen("y", at_most=200)])
    own = CascadeModel([small, Stage("full", PythonModel(ten))])
    return predict(own, inputs, tmp_path_factory.mktemp("cascade") / "out", **LIMITS)


@pytest.fixture(scope="session")
def branches(inputs, tmp_path_factory):
    """Two models side by side, and one that was not allowed to run."""
    folder = tmp_path_factory.mktemp("branches")
    old = Branch("old", PythonModel(five), f"{folder}/old", Decision(NOT_BLESSED, REASON))
    return _several(folder, inputs, (old,), comparing=Comparing(key_features=("user",)))


@pytest.fixture(scope="session")
def ab_test(inputs, tmp_path_factory):
    """Each record goes to one of two models, and outcomes are known."""
    folder = tmp_path_factory.mktemp("ab_test")
    lines = [f"user {i},{i % 2}" for i in range(1, 200)]
    (folder / "outcomes.csv").write_text("\n".join(["key,value", *lines]))
    routing = SplitRouting({"five": 1, "ten": 1}, split_key="user")
    job = {"routing": routing, "outcomes": str(folder / "outcomes.csv")}
    return _several(folder, inputs, (), job)


def _several(folder, inputs, more, job=None, **outputs):
    own = [Branch("five", PythonModel(five), f"{folder}/five")]
    own += [Branch("ten", PythonModel(ten), f"{folder}/ten"), *more]
    run(
        InferenceJob(
            splits={split: [path] for split, path in inputs.items()},
            branches=own,
            outputs=Outputs.under(folder, table=True, comparison=f"{folder}/comparison", **outputs),
            **LIMITS,
            **(job or {}),
        )
    )
    return results.read(folder)
