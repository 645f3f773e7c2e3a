"""Records and models to measure with. They are made once for each description, then reused."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

_CHUNK = 10_000
_HIDDEN = 64


@dataclass(frozen=True)
class Data:
    """Which records: tf.Examples of scalar float features `f00`, `f01`, ...

    Attributes:
      records: how many.
      features: how many each has; with one, the model is y = 5 x instead of an MLP.
      files: how many files they are in.
      compression: `GZIP`, or nothing.
      texts: whether records hold a text of up to 40 letters too, so that they differ in length.
    """

    records: int = 400_000
    features: int = 20
    files: int = 4
    compression: str = "GZIP"
    texts: bool = False

    @property
    def names(self) -> list[str]:
        """The names of the features."""
        return [f"f{i:02d}" for i in range(self.features)]


@dataclass(frozen=True)
class Prepared:
    """What contestants get.

    Attributes:
      data: the description.
      examples: folder with `Split-unlabelled/`, as ExampleGen lays it out.
      model: folder of a Model artifact, with `Format-Serving/`.
      keras_model: the same model as a `.keras` file, from tensors to tensors.
    """

    data: Data
    examples: str
    model: str
    keras_model: str

    @property
    def files(self) -> list[str]:
        """The files of records."""
        return sorted(str(path) for path in Path(self.examples, "Split-unlabelled").iterdir())

    @property
    def saved_model(self) -> str:
        """The SavedModel."""
        return os.path.join(self.model, "Format-Serving")


def prepare(folder: Path, data: Data) -> Prepared:
    """Makes what is not there yet below `folder`."""
    name = "-".join(str(value) for value in asdict(data).values() if value)
    models = folder / f"model-{data.features}"
    made = Prepared(data, str(folder / name), str(models), str(models / "model.keras"))
    if not Path(made.keras_model).exists():
        _make_model(made)
    is_complete = folder / f"{name}.json"
    if not is_complete.exists():
        _write_records(made)
        is_complete.write_text(json.dumps(asdict(data)))
    return made


def _write_records(made: Prepared) -> None:
    from bulk_inferencer._formats import tfrecord
    from bulk_inferencer._formats.example import Column, append_columns

    data = made.data
    folder = Path(made.examples, "Split-unlabelled")
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    suffix = ".gz" if data.compression else ""
    for i in range(data.files):
        count = data.records // data.files + (i < data.records % data.files)
        with open(folder / f"data-{i:05d}-of-{data.files:05d}{suffix}", "wb") as file:
            for start in range(0, count, _CHUNK):
                size = min(_CHUNK, count - start)
                values = {name: random.random(size, np.float32) for name in data.names}
                if data.texts:
                    texts = [b"t" * length for length in random.integers(0, 40, size)]
                    values["text"] = np.array(texts, object)
                columns = [Column(name, name) for name in values]
                # A record is features appended to nothing.
                framed = tfrecord.frame(append_columns([b""] * size, values, columns, True))
                file.write(tfrecord.gzip_member(framed) if data.compression else framed)


def _make_model(made: Prepared) -> None:
    import keras
    import tensorflow as tf

    layers = weights(made.data.features)
    spec = {name: tf.io.FixedLenFeature([], tf.float32) for name in made.data.names}

    class Model(tf.Module):
        """A tf.Module, since the session loader of the peers cannot load Keras 3 models."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = [(tf.Variable(w), tf.Variable(b)) for w, b in layers]

        def serve(self, examples: Any) -> dict[str, Any]:
            parsed = tf.io.parse_example(examples, spec)
            hidden = tf.stack([parsed[name] for name in spec], axis=1)
            for w, b in self.layers[:-1]:
                hidden = tf.nn.relu(hidden @ w + b)
            y = (hidden @ self.layers[-1][0] + self.layers[-1][1])[:, 0]
            return {"y": y, "score": tf.sigmoid(y)}

    model = Model()
    serve = tf.function(model.serve, [tf.TensorSpec([None], tf.string, "examples")])
    tf.saved_model.save(model, made.saved_model, {"serving_default": serve})
    inputs = keras.Input((made.data.features,))
    hidden = inputs
    for i, (w, _) in enumerate(layers):
        activation = "relu" if i < len(layers) - 1 else None
        hidden = keras.layers.Dense(w.shape[1], activation=activation)(hidden)
    twin = keras.Model(inputs, hidden)
    twin.set_weights([array for layer in layers for array in layer])
    twin.save(made.keras_model)


def weights(features: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns weights and biases, layer by layer: y = 5 x for one feature, else an MLP."""
    if features == 1:
        return [(np.full((1, 1), 5, np.float32), np.zeros(1, np.float32))]
    random = np.random.default_rng(11)
    sizes = [features, _HIDDEN, _HIDDEN, 1]
    return [
        (random.normal(0, n**-0.5, (n, m)).astype(np.float32), np.zeros(m, np.float32))
        for n, m in itertools.pairwise(sizes)
    ]
