from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.scorer import Scorer
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._units.checkpoint import reusable
from bulk_inferencer._units.damaged_files import DamagedFiles, check_damaged_files
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.run import Scoring, run_unit
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results.summary import DamagedFile
from tests.helpers import Lengths, exactly, write_tfrecord
from tests.units.helpers import failures_of, input_file, sinks_in

SKIP = DamagedFiles(skip=True, max_count=5)


def run(folder, damaged_files):
    """Runs a unit of all files in `in`, of which each may change after it was listed."""
    files = tuple(map(input_file, sorted((folder / "in").iterdir())))
    (folder / "in/3-gone").unlink()
    (folder / "in/5-emptied").write_bytes(b"")
    scoring = Scoring({"m": LogScorer(Scorer(Lengths()))}, BatchBounds(max_record_bytes=20))
    sinks = sinks_in(f"{folder}/out", ["m"])
    return run_unit(Unit("s", 0, 1, files), scoring, sinks, damaged_files=damaged_files)


@pytest.fixture
def folder(tmp_path):
    names = ["1-good", "2-cut", "3-gone", "4-long", "5-emptied", "7-good"]
    for name in names:
        records = [f"{name} {i}".encode() for i in range(4)] + [b"bad " + name.encode()]
        records += [b"long" * 9] if name == "4-long" else []
        write_tfrecord(tmp_path / "in" / name, records, "")
    content = Path(tmp_path, "in/2-cut").read_bytes()
    Path(tmp_path, "in/2-cut").write_bytes(content[: len(content) // 2])
    Path(tmp_path, "in/6-text").write_text("x,y\n1,2\n")
    return tmp_path


def test_records_before_the_damage_count_and_each_file_is_listed_with_its_reason(folder):
    manifest = run(folder, SKIP)
    assert [(file.split, Path(file.file).name) for file in manifest.damaged_files] == [
        ("s", name) for name in ("2-cut", "3-gone", "4-long", "5-emptied", "6-text")
    ]
    ends = [
        "within a record",
        "No such file",
        "max_record_bytes is 20",
        "and 0 when it",
        "CSV file",
    ]
    for file, end in zip(manifest.damaged_files, ends, strict=True):
        assert file.file in file.reason
        assert end in file.reason
    assert (manifest.examples_read, manifest.predictions_made) == (5 + 2 + 5 + 5, 4 + 2 + 4 + 4)
    assert [(Path(line["file"]).name, line["record"]) for line in failures_of(manifest)] == [
        ("1-good", 4),
        ("4-long", 4),
        ("7-good", 4),
    ]
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_first_damaged_file_fails_the_run_by_default(folder):
    with pytest.raises(InputError, match=rf"^Cannot read {folder}/in/2-cut as TFRecord: "):
        run(folder, DamagedFiles())


@pytest.mark.parametrize("allowed", [0, 4])
def test_more_damaged_files_than_allowed_fail_the_unit(folder, allowed):
    start = f"More files of split 's' are damaged .*, which is {allowed}: {allowed + 1} so far"
    with pytest.raises(InputError, match=rf"^{start}.* The first: .*/in/2-cut "):
        run(folder, DamagedFiles(skip=True, max_count=allowed))


def test_limit_holds_for_all_units_of_a_split_together():
    def unit(index, split, *names):
        files = tuple(DamagedFile(split, name, f"{name} is cut.") for name in names)
        return Manifest(split, index, (), 0, 0, {}, {}, 1.0, damaged_files=files)

    units = [unit(0, "s", "c"), unit(1, "s", "b"), unit(0, "t", "a")]
    found = check_damaged_files(DamagedFiles(skip=True, max_count=2), units)
    assert [file.file for file in found] == ["b", "c", "a"]
    message = (
        "More files of split 's' are damaged than DamagedFiles.max_count allows, which is 1: 2 so "
        "far. Mend them, or raise the limit. The first: b is cut."
    )
    with pytest.raises(InputError, match=exactly(message)):
        check_damaged_files(DamagedFiles(skip=True, max_count=1), units)
    with pytest.raises(InputError, match=exactly("b is cut.")):
        check_damaged_files(DamagedFiles(), units)


def test_unit_with_a_damaged_file_is_done_again_by_the_next_run(folder):
    manifest = run(folder, SKIP)
    assert reusable([manifest]) == []
    whole = dataclasses.replace(manifest, damaged_files=())
    assert reusable([whole]) == [whole]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"skip": "SKIP"},
            "skip must be True or False, not 'SKIP'. {default}",
        ),
        ({"max_count": -1}, "max_count must be a whole number of at least 0, not -1. {default}"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    default = "to fail at the first damaged file" if "skip" in settings else "for the default"
    message = message.format(default=f"Leave it out {default}.")
    with pytest.raises(SettingsError, match=exactly(f"DamagedFiles.{message}")):
        DamagedFiles(**settings)
