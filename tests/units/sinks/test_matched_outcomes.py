from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest

from bulk_inferencer import _files
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.sinks.matched_outcomes import MatchedOutcomes
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.comparison import Comparison
from bulk_inferencer.results.outcomes import outcome_of, read_outcomes
from tests.helpers import example
from tests.units.helpers import lengths_at_most, score_records

ROUTING = SplitRouting({"a": 1, "b": 1}, "k")


@pytest.fixture
def sink(tmp_path):
    """A sink with the outcomes 0.0 ... 79.0 of user-0 ... user-79, and one of a bad record."""
    path = tmp_path / "outcomes.csv"
    rows = [*(f"user-{i},{i}" for i in range(80)), "bad,1000"]
    path.write_text("\n".join(["key,value", *rows]))
    return MatchedOutcomes(f"{tmp_path}/out/comparison", read_outcomes(str(path)), ROUTING)


def score_keys(folder, sink, *keys):
    models = {name: lengths_at_most(100) for name in "ab"}
    records = [example(k=key, t="t" * 200 * (key == "bad")) for key in keys]
    return score_records(folder, models, records, more_sinks=[sink], routing=ROUTING)


def test_outcomes_are_those_of_the_keys_that_were_scored(tmp_path, sink, caplog):
    manifests = [
        score_keys(tmp_path / "1", sink, "user-1", "user-3", "user-70", "user-3", "bad"),
        score_keys(tmp_path / "2", sink, "nobody", "user-5", "user-6"),
    ]
    assert manifests[0].examples_failed == 1
    assert int(manifests[0].sinks["outcomes"].notes, 16) == 1 << 1 | 1 << 3 | 1 << 70
    sink.finish(["s"], manifests, sink.merged(None, manifests))
    of_model = {"a": [], "b": []}
    for i in (1, 3, 5, 6, 70):
        of_model[ROUTING.model_of(b"user-%d" % i)].append(float(i))
    assert Comparison.read(sink.folder).outcomes == {n: outcome_of(v) for n, v in of_model.items()}

    unmatched = score_keys(tmp_path / "3", sink, "nobody")
    with caplog.at_level(logging.WARNING):
        sink.finish(["s"], [unmatched], sink.merged(None, [unmatched]))
    (message,) = caplog.messages
    path = sink.outcomes.path
    assert message.startswith(f"No key in {path} is a value of k in the records")
    assert [outcome.count for outcome in Comparison.read(sink.folder).outcomes.values()] == [0, 0]


def test_table_stays_behind_and_a_process_reads_it_once_for_all_units(tmp_path, sink, monkeypatch):
    path, pickled = sink.outcomes.path, pickle.dumps(sink)
    assert b"user-" not in pickled
    opened = []
    open_to_read = _files.open_to_read
    monkeypatch.setattr(_files, "open_to_read", lambda p: opened.append(p) or open_to_read(p))
    sent = pickle.loads(pickled).loaded()
    assert (sent, sent.loaded()) == (sink, sent)
    for i in range(3):
        manifest = score_keys(tmp_path / str(i), sent, f"user-{i}")
        assert int(manifest.sinks["outcomes"].notes, 16) == 1 << i
    assert opened.count(path) == 1
    Path(path).write_text("key,value\n")
    with pytest.raises(InputError, match=r"^The content of .* has changed since the run began"):
        pickle.loads(pickled).loaded()
