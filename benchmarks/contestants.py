"""The contestants. Each runs alone in a process: python -m benchmarks.contestants NAME JSON.

Executors write their results, and that is timed too. A transform only passes its results on: in
timed runs, the step after it just counts them.

The last line of the output is a JSON object:
  seconds: wall time of the work itself, without imports but with loading the model.
  cpu_seconds: user and system time of the process during that.
  process_seconds: wall time from the start of the process.
  peak_mib: peak memory of the process, in MiB.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benchmarks.data import Data, Prepared

_STARTED = time.time()
_BATCH = 4096


def limit(prepared: Prepared, results: str) -> Callable[[], None]:
    """TensorFlow alone: reads, batches and calls the signature; writes nothing."""
    import tensorflow as tf

    def work() -> None:
        loaded = tf.saved_model.load(prepared.saved_model)
        serve = loaded.signatures["serving_default"]
        dataset = tf.data.TFRecordDataset(prepared.files, prepared.data.compression)
        for batch in dataset.batch(_BATCH).prefetch(tf.data.AUTOTUNE):
            for output in serve(batch).values():
                output.numpy()

    return work


def bulk_inferencer(prepared: Prepared, results: str) -> Callable[[], None]:
    """The executor of BulkInferencer, end to end: PredictionLogs written and reconciled."""
    return _bulk_inferencer(prepared, results, {})


def bulk_inferencer_uncompressed(prepared: Prepared, results: str) -> Callable[[], None]:
    """The same, with uncompressed PredictionLogs."""
    return _bulk_inferencer(prepared, results, {"compression": "NONE"})


def _bulk_inferencer(
    prepared: Prepared, results: str, data_spec: dict[str, str]
) -> Callable[[], None]:
    from tfx.types import standard_artifacts

    from bulk_inferencer import InferenceSummary
    from bulk_inferencer.components.executor import Executor

    kinds = {
        "inference_result": standard_artifacts.InferenceResult,
        "summary": InferenceSummary,
        "failed_examples": standard_artifacts.Examples,
    }
    return _execute(Executor, prepared, results, kinds, data_spec)


def tfx_bulk_inferrer(prepared: Prepared, results: str) -> Callable[[], None]:
    """The executor of TFX's BulkInferrer, end to end."""
    from tfx.components.bulk_inferrer.executor import Executor
    from tfx.types import standard_artifacts

    return _execute(
        Executor, prepared, results, {"inference_result": standard_artifacts.InferenceResult}, {}
    )


def run_inference(prepared: Prepared, results: str) -> Callable[[], None]:
    """RunInference of bulk_inferencer.beam, record by record."""
    from bulk_inferencer.beam import RunInference, SavedModel

    return _transform(prepared, results, RunInference(SavedModel(prepared.saved_model)))


def keyed_run_inference(prepared: Prepared, results: str) -> Callable[[], None]:
    """RunInference of bulk_inferencer.beam, record by record with keys."""
    from bulk_inferencer.beam import RunInference, SavedModel

    transform = RunInference(SavedModel(prepared.saved_model))
    return _transform(prepared, results, transform, is_keyed=True)


def tfx_bsl_run_inference(prepared: Prepared, results: str) -> Callable[[], None]:
    """RunInference of tfx_bsl.public.beam, record by record."""
    return _transform(prepared, results, _tfx_bsl(prepared))


def keyed_tfx_bsl_run_inference(prepared: Prepared, results: str) -> Callable[[], None]:
    """RunInference of tfx_bsl.public.beam, record by record with keys."""
    return _transform(prepared, results, _tfx_bsl(prepared), is_keyed=True)


def beam_run_inference(prepared: Prepared, results: str) -> Callable[[], None]:
    """Beam's RunInference with TFModelHandlerTensor: from tensors, to PredictionResults."""
    import types

    import apache_beam as beam
    import tensorflow as tf

    # Beam's handler passes paths through tensorflow_hub, which returns local ones unchanged. The
    # version that TFX 1.16 allows cannot be imported with TensorFlow 2.16.
    hub = types.ModuleType("tensorflow_hub")
    hub.resolve = lambda path: path  # type: ignore[attr-defined]
    sys.modules.setdefault("tensorflow_hub", hub)
    from apache_beam.ml.inference.base import RunInference
    from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerTensor

    spec = {name: tf.io.FixedLenFeature([], tf.float32) for name in prepared.data.names}

    def to_tensor(record: bytes) -> Any:
        parsed = tf.io.parse_single_example(record, spec)
        return tf.stack([parsed[name] for name in spec])

    def to_example(result: Any) -> Any:
        values = [*result.example.numpy().tolist(), float(result.inference)]
        feature = {"values": tf.train.Feature(float_list=tf.train.FloatList(value=values))}
        return tf.train.Example(features=tf.train.Features(feature=feature))

    transform = (
        beam.Map(to_tensor)
        | RunInference(TFModelHandlerTensor(prepared.keras_model))
        | beam.Map(to_example)
    )
    return _transform(prepared, results, transform)


CONTESTANTS = {
    function.__name__: function
    for function in (
        limit,
        bulk_inferencer,
        bulk_inferencer_uncompressed,
        tfx_bulk_inferrer,
        run_inference,
        keyed_run_inference,
        tfx_bsl_run_inference,
        keyed_tfx_bsl_run_inference,
        beam_run_inference,
    )
}


def _execute(
    executor: Any,
    prepared: Prepared,
    results: str,
    kinds: dict[str, Any],
    data_spec: dict[str, str],
) -> Callable[[], None]:
    from tfx.types import standard_artifacts

    from bulk_inferencer.engines.beam_options import with_runner

    examples, model = standard_artifacts.Examples(), standard_artifacts.Model()
    examples.uri, examples.split_names = prepared.examples, '["unlabelled"]'
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    model.uri = prepared.model
    outputs = {}
    for key, kind in kinds.items():
        outputs[key] = [kind()]
        outputs[key][0].uri = os.path.join(results, key)
        os.makedirs(outputs[key][0].uri)
    context = executor.Context(beam_pipeline_args=with_runner([]))
    inputs = {"examples": [examples], "model": [model]}
    properties = {"data_spec": json.dumps(data_spec), "model_spec": "{}"}
    return lambda: executor(context).Do(inputs, outputs, properties)


def _tfx_bsl(prepared: Prepared) -> Any:
    from tfx_bsl.public.beam import RunInference
    from tfx_bsl.public.proto import model_spec_pb2

    spec = model_spec_pb2.SavedModelSpec(model_path=prepared.saved_model)
    return RunInference(model_spec_pb2.InferenceSpecType(saved_model_spec=spec))


def _transform(
    prepared: Prepared, results: str, transform: Any, is_keyed: bool = False
) -> Callable[[], None]:
    """Returns a pipeline around a transform, with the same source and sink for every transform.

    The sink counts results. With a folder for `results`, it also writes them.
    """
    import apache_beam as beam
    import tensorflow as tf
    from apache_beam.options.pipeline_options import PipelineOptions

    from bulk_inferencer.engines.beam_options import with_runner

    def read(path: str) -> Iterator[Any]:
        dataset = tf.data.TFRecordDataset(path, prepared.data.compression).batch(_BATCH)
        for i, chunk in enumerate(dataset.as_numpy_iterator()):
            for j, record in enumerate(chunk.tolist()):
                yield ((path, i, j), record) if is_keyed else record

    class Count(beam.DoFn):
        def start_bundle(self) -> None:
            self._count = 0

        def process(self, result: Any) -> None:
            self._count += 1

        def finish_bundle(self) -> None:
            beam.metrics.Metrics.counter("benchmarks", "results").inc(self._count)

    class Write(Count):
        def start_bundle(self) -> None:
            super().start_bundle()
            path = os.path.join(results, f"prediction_logs-{time.monotonic_ns()}.gz")
            self._writer = tf.io.TFRecordWriter(path, "GZIP")

        def process(self, result: Any) -> None:
            super().process(result)
            log = result[1] if is_keyed else result
            self._writer.write(log.SerializeToString())

        def finish_bundle(self) -> None:
            super().finish_bundle()
            self._writer.close()

    def work() -> None:
        pipeline = beam.Pipeline(options=PipelineOptions(with_runner([])))
        paths: Iterable[str] = prepared.files
        _ = (
            pipeline
            | beam.Create(paths)
            | beam.Reshuffle()
            | beam.FlatMap(read).with_output_types(
                beam.typehints.Tuple[beam.typehints.Any, bytes] if is_keyed else bytes
            )
            | transform
            | beam.ParDo(Write() if results else Count())
        )
        result = pipeline.run()
        result.wait_until_finish()
        query = beam.metrics.MetricsFilter().with_namespace("benchmarks")
        (counter,) = result.metrics().query(query)["counters"]
        expected, got = prepared.data.records, counter.committed
        assert got == expected, f"expected {expected} results, got {got}"

    return work


def main() -> None:
    name, described = sys.argv[1:]
    given = json.loads(described)
    prepared = Prepared(**{**given["prepared"], "data": Data(**given["prepared"]["data"])})
    results = given["results"]
    if results:
        shutil.rmtree(results, ignore_errors=True)
        os.makedirs(results)
    work = CONTESTANTS[name](prepared, results)
    # Some contestants import these on first use, which is not what is measured.
    for module in ("tensorflow", "apache_beam.runners.portability.fn_api_runner.fn_runner"):
        importlib.import_module(module)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    work()
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    measured = {
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "process_seconds": time.time() - _STARTED,
        "peak_mib": after.ru_maxrss / 1024,
    }
    print(json.dumps(measured), flush=True)
    os._exit(0)  # skips TensorFlow's shutdown


if __name__ == "__main__":
    main()
