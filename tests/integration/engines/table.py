"""The table of docs/engines.md: what was checked on each engine, and what a crash does there.

Its cells come from what tests call of `behaviour`, so that no row says more than was tested. The
versions are those that are locked, and all tests must have passed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
_CHECKOUT = FOLDER.parents[2]
_REQUIREMENTS = _CHECKOUT / "requirements"
PAGE = _CHECKOUT / "docs" / "engines.md"
BEGIN, END = "<!-- written by make test-engines -->\n", "<!-- end -->\n"
_HEAD = (
    "engine", "version", "run here on", "started with", "checked", "what a crash does"
)  # fmt: skip


class Place(NamedTuple):
    """Where an engine was run.

    Attributes:
      label: the engine.
      lock: the file below `requirements`, without its ending, that has the version of its package.
      package: its package.
      how: what it was run on.
      options: what tells a run to use it.
    """

    label: str
    lock: str
    package: str
    how: str
    options: str


_BEAM = ("engines", "apache-beam")
_RUNNERS = {
    "job_service": Place(
        "Beam, its job service",
        *_BEAM,
        "one worker of a pool in another environment",
        "`--runner=PortableRunner --job_endpoint=HOST:PORT --environment_type=EXTERNAL`",
    ),
    "prism": Place(
        "Beam, Prism",
        *_BEAM,
        "one worker of a pool in another environment",
        "the same, with the address of Prism",
    ),
}
_SPARK = ("a master and two workers", "`--engine spark --master spark://HOST:PORT`")
PLACES = {
    "threads": Place("Beam, its local runner", *_BEAM, "two threads", "nothing, or `Beam()`"),
    "processes": Place(
        "Beam, its local runner",
        *_BEAM,
        "two processes",
        "`--direct_running_mode=multi_processing`",
    ),
    **_RUNNERS,
    "Ray": Place(
        "Ray", "engines", "ray", "a head and two nodes", "`--engine ray --address HOST:PORT`"
    ),
    "Spark": Place("Spark", "engines", "pyspark", *_SPARK),
    "Spark 4": Place("Spark", "spark-4", "pyspark", *_SPARK),
    "Spark Connect": Place(
        "Spark Connect",
        "spark-4",
        "pyspark",
        "a server with two threads",
        "`--engine spark --master sc://HOST:PORT`",
    ),
}
_CHECKED = {
    "scores_as_local_threads_do": "results of several models, a cascade, hooks, failures and a "
    "table are those of local threads",
    "scores_wide_records": "400,000 wide records",
    "scores_a_saved_model": "a SavedModel",
    "scores_in_a_pipeline": "components in a TFX pipeline",
    "raises_errors_of_workers_once": "an error of ours comes once, on one line",
    "refuses_a_folder_that_workers_do_not_share": "a folder that workers do not share is refused",
}
_CRASHES = {
    "survives": "a worker is killed: others do its units",
    "fails_cleanly": "a worker is killed: the run ends with an error, the same call goes on",
    "goes_on_elsewhere": "the launcher is killed: the same call goes on, here with local threads",
    "stops_when_interrupted": "Ctrl-C: no worker goes on, what is finished is kept",
}


def proved() -> dict[str, set[str]]:
    """Returns the functions of `behaviour` that tests call, by the place where they do."""
    found: dict[str, set[str]] = {place: set() for place in PLACES}
    for path in [*FOLDER.glob("test_*.py"), FOLDER / "on_spark_4.py"]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                calls = {own.attr for own in ast.walk(node) if isinstance(own, ast.Attribute)}
                for place in _places_of(path, node):
                    found[place] |= calls & {*_CHECKED, *_CRASHES}
    return found


_OF_FILE = {"test_local_threads.py": "threads", "test_ray.py": "Ray", "test_spark.py": "Spark"}
_OF_FUNCTION = {"on_a_cluster": "Spark 4", "by_spark_connect": "Spark Connect"}


def _places_of(path: Path, function: ast.FunctionDef) -> Iterable[str]:
    if place := _OF_FILE.get(path.name) or _OF_FUNCTION.get(function.name):
        return [place]
    arguments = {argument.arg for argument in function.args.args}
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    if "PROCESSES" in names:
        return ["processes"]
    return _RUNNERS if "engine" in arguments else arguments & _RUNNERS.keys()


def lines() -> list[str]:
    """Returns the table."""
    rows = [_HEAD, ("---",) * len(_HEAD)]
    for name, calls in proved().items():
        place = PLACES[name]
        checked, crashes = (
            "; ".join(words for call, words in all_words.items() if call in calls)
            for all_words in (_CHECKED, _CRASHES)
        )
        rows.append((place.label, _version(place), place.how, place.options, checked, crashes))
    return [f"| {' | '.join(row)} |" for row in rows]


def _version(place: Place) -> str:
    locked = (_REQUIREMENTS / f"{place.lock}.txt").read_text(encoding="utf-8")
    (version,) = re.findall(rf"^{place.package}(?:\[.*\])?==([\d.]+)", locked, re.MULTILINE)
    return version


def write() -> None:
    """Writes the table into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    text = "\n".join(lines())
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def read() -> list[str]:
    """Returns the lines of the table in the page."""
    text = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return text.strip().splitlines()
