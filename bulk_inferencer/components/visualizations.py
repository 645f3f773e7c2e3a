"""How `InteractiveContext.show` shows what the components write.

```python
context.run(inferencer)
context.show(inferencer.outputs["inference_result"])
```

It finds these classes by the type of the artifact. So results of TFX's BulkInferrer are shown too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfx import types
from tfx.orchestration.experimental.interactive import visualizations
from tfx.types import standard_artifacts

from bulk_inferencer import results
from bulk_inferencer.components.artifacts import InferenceSummary, ModelComparison, PredictionTable
from bulk_inferencer.results.comparison import Comparison
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.summary import Summary


class _Visualization(visualizations.ArtifactVisualization):
    def display(self, artifact: types.Artifact) -> None:
        from IPython.display import display

        for shown in self.shown(artifact.uri):
            display(shown)

    def shown(self, uri: str) -> Iterator[Any]:
        """Yields what notebooks can show of an artifact at `uri`."""
        raise NotImplementedError


class InferenceResultVisualization(_Visualization):
    """What the run says of the model, and the first rows of its predictions."""

    ARTIFACT_TYPE = standard_artifacts.InferenceResult

    def shown(self, uri: str) -> Iterator[Any]:
        """Yields the results."""
        yield results.read(uri)


class PredictionTableVisualization(InferenceResultVisualization):
    """What the run says, and the first rows of the table."""

    ARTIFACT_TYPE = PredictionTable


class InferenceSummaryVisualization(_Visualization):
    """The summary of a run, and the statistics of its predictions."""

    ARTIFACT_TYPE = InferenceSummary

    def shown(self, uri: str) -> Iterator[Any]:
        """Yields the summary, and the statistics where the run has written them."""
        yield Summary.read(uri)
        if statistics := Statistics.read_if_any(uri):
            yield statistics


class ModelComparisonVisualization(_Visualization):
    """How several models differ."""

    ARTIFACT_TYPE = ModelComparison

    def shown(self, uri: str) -> Iterator[Any]:
        """Yields the comparison."""
        yield Comparison.read(uri)


_ALL = (
    InferenceResultVisualization,
    InferenceSummaryVisualization,
    ModelComparisonVisualization,
    PredictionTableVisualization,
)


def register() -> None:
    """Tells TFX about these classes, except for types that the user shows in another way."""
    registry = visualizations.get_registry()
    for own in _ALL:
        if registry.get_visualization(own.ARTIFACT_TYPE.TYPE_NAME) is None:
            registry.register(own)
