"""Names of channels, execution properties and what ML Metadata keeps of outputs."""

from __future__ import annotations

from bulk_inferencer import _layout

# Inputs
EXAMPLES = "examples"  # and examples_1, ... where there are several channels
MODEL = "model"
PUSHED_MODEL = "pushed_model"
BASELINE = "baseline"

# Outputs; each of several models has one of its own name.
INFERENCE_RESULT = _layout.INFERENCE_RESULT
SUMMARY = "summary"
FAILED_EXAMPLES = "failed_examples"
OUTPUT_EXAMPLES = "output_examples"
COMPARISON = "comparison"
PREDICTION_TABLE = "prediction_table"
PREDICTION_BLESSING = "prediction_blessing"

# Execution properties
DATA_SPEC = "data_spec"
MODEL_SPEC = "model_spec"
MODEL_SPECS = "model_specs"
CASCADE_SPEC = "cascade_spec"
ROUTING = "routing"
COMPARISON_SPEC = "comparison_spec"
OUTPUT_EXAMPLE_SPEC = "output_example_spec"
TABLE_SPEC = "table_spec"
EXPECTATIONS = "expectations"
ENGINE = "engine"
MODEL_NAMES = "model_names"
REQUIRED_BLESSINGS = "required_blessings"
MODULE_FILE = "module_file"
MODULE_PATH = "module_path"
RUN_ID = "run_id"

# Custom properties of results
GATE = "gate"
MODEL_FINGERPRINT = "model_fingerprint"
SIGNATURE_NAMES = "signature_names"
MODEL_ID = "model_id"
BLESSING_ID = "blessing_id"
EXAMPLES_IDS = "examples_ids"
MODEL_NAME = "model_name"
MODEL_ENDPOINT = "model_endpoint"
MODEL_VERSION = "model_version"
COUNTS = ("examples_read", "predictions_written", "examples_failed")


def examples_key(index: int) -> str:
    """Returns the input of one of several channels of examples."""
    return f"{EXAMPLES}_{index}" if index else EXAMPLES


def model_key(name: str) -> str:
    """Returns the input of one of several models."""
    return f"{MODEL}_{name}"


def blessing_key(name: str) -> str:
    """Returns the input of the blessing of one of several models."""
    return f"blessing_{name}"


def baseline_key(name: str) -> str:
    """Returns the input of the earlier results of a model, which may have no name."""
    return f"{BASELINE}_{name}" if name else BASELINE


def prediction_blessing_key(name: str) -> str:
    """Returns the output that says whether predictions are as expected of a model."""
    return f"{PREDICTION_BLESSING}_{name}" if name else PREDICTION_BLESSING
