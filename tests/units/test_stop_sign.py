"""The error of a worker, on its way to the run."""

from __future__ import annotations

import pytest

from bulk_inferencer import _files
from bulk_inferencer._units.stop_sign import StopSign
from bulk_inferencer.errors import InputError, SettingsError
from tests.helpers import exactly, in_bucket


class UsersError(InputError):
    pass


@pytest.mark.parametrize("place", [str, in_bucket], ids=["disk", "object store"])
@pytest.mark.parametrize(
    "error", [SettingsError("1\n2"), UsersError("1\n2")], ids=["ours", "derived"]
)
def test_error_comes_back_with_its_type_and_message_and_once(tmp_path, place, error):
    stop = StopSign.in_folder(place(tmp_path))
    assert not stop.is_up()
    with stop.put_up_on_error():
        raise error
    assert stop.is_up()
    found = stop.take_down()
    assert type(found) is (InputError if isinstance(error, UsersError) else SettingsError)
    assert str(found) == "1\n2"
    assert stop.take_down() is None
    assert list(tmp_path.iterdir()) == []


def test_first_error_stays_and_needs_no_room_on_a_full_disk(tmp_path, monkeypatch):
    stop = StopSign.in_folder(str(tmp_path))
    monkeypatch.setattr(_files, "open_to_write", None)
    for message in "12":
        with stop.put_up_on_error():
            raise InputError(message)
    assert str(stop.take_down()) == "1"
    assert list(tmp_path.iterdir()) == []


def test_any_other_error_goes_through(tmp_path):
    stop = StopSign.in_folder(str(tmp_path))
    with pytest.raises(ValueError, match=r"^of a library$"), stop.put_up_on_error():
        raise ValueError("of a library")
    assert stop.take_down() is None


def test_error_goes_through_where_it_cannot_be_written_down(tmp_path):
    (tmp_path / "file").touch()
    stop = StopSign(f"{tmp_path}/file/stop")
    with pytest.raises(InputError, match=exactly("damaged")), stop.put_up_on_error():
        raise InputError("damaged")
