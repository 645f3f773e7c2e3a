"""Pickles what goes to workers: functions of notebooks and scripts by value, too."""

from __future__ import annotations

import io
import threading
from typing import Any

import cloudpickle


class _Pickler(cloudpickle.CloudPickler):
    """Locks become new ones: a function of a notebook may well refer to a module that has some."""

    def reducer_override(self, value: Any) -> Any:
        for kind in (threading.Lock, threading.RLock):
            if type(value) is type(kind()):
                return kind, ()
        return super().reducer_override(value)


def dumps(value: Any) -> bytes:
    """Returns an object as bytes, which `pickle.loads` takes."""
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()
