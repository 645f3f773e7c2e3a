"""Records are cut and framed in two ways, compiled and in Python, which give the same bytes."""

from __future__ import annotations

import importlib.util
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._formats import _framing, framing
from bulk_inferencer._formats.framing import Damage, JoinedRecords, cut_in_python, frame_in_python

NO_LIMIT = 1 << 62
RECORDS = st.lists(st.binary(max_size=300), max_size=20)
LONG = bytes(range(256)) * 20


@pytest.fixture(params=[True, False], ids=["instruction", "table"], scope="module")
def checksums(request):
    """Both ways in which the compiled functions take checksums; True where there is a choice."""
    yield _framing.use_instruction(request.param) == request.param
    _framing.use_instruction(True)


def cut_both(buffer, most):
    """Returns what both ways make of a buffer, after comparing all that has a meaning."""
    own, other = _framing.cut(buffer, most), cut_in_python(buffer, most)
    assert own[0] == other[0]
    assert own[3:] == other[3:]
    if not own[3]:
        assert own[1:3] == other[1:3]
    return own


@pytest.mark.usefixtures("checksums")
@given(records=RECORDS, most=st.sampled_from([NO_LIMIT, 0, 100]), data=st.data())
def test_both_cut_in_the_same_places(records, most, data):
    buffer = frame_in_python(records)
    end = data.draw(st.integers(0, len(buffer)))
    found, stop, missing, damage, _ = cut_both(buffer[:end], most)
    assert found == records[: len(found)]
    if not damage and stop + missing <= len(buffer):
        # So many more bytes may be enough for one more header or record.
        assert cut_both(buffer[: stop + end - stop + missing], most)[1] >= stop


@pytest.mark.usefixtures("checksums")
@given(records=RECORDS, most=st.sampled_from([NO_LIMIT, 100]), data=st.data())
def test_both_find_the_same_damage(records, most, data):
    buffer = bytearray(frame_in_python(records))
    for _ in range(data.draw(st.integers(1, 3))):
        if buffer:
            buffer[data.draw(st.integers(0, len(buffer) - 1))] ^= data.draw(st.integers(1, 255))
    cut_both(bytes(buffer), most)


@pytest.mark.usefixtures("checksums")
@given(noise=st.binary(max_size=64), length=st.integers(0, 2**64 - 1))
def test_both_withstand_what_is_no_file(noise, length):
    cut_both(noise, NO_LIMIT)
    found, _, missing, damage, told = cut_both(framing.header(length) + noise, NO_LIMIT)
    if length > NO_LIMIT:
        assert (found, damage, told) == ([], Damage.TOO_LONG, length)
    elif length > len(noise):
        assert (found, damage, missing) == ([], Damage.NONE, length + 4 - len(noise))


@pytest.mark.usefixtures("checksums")
@given(records=RECORDS, start=st.binary(max_size=40))
def test_both_frame_alike(records, start):
    assert _framing.frame(records) == frame_in_python(records)
    columns = [start] * len(records), records, records
    assert _framing.frame(*columns) == frame_in_python(*columns)
    assert _framing.frame(*columns) == frame_in_python([start + 2 * r for r in records])


def test_checksum_is_that_of_the_specification(checksums):
    assert checksums
    # RFC 3720, B.4: the CRC of 32 bytes of zeros is 0x8A9136AA.
    crc = 0x8A9136AA
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    for frame in (_framing.frame, frame_in_python):
        assert frame([bytes(32)])[-4:] == struct.pack("<I", masked)


@pytest.mark.parametrize("frame", [_framing.frame, frame_in_python])
def test_columns_of_different_lengths_are_refused(frame):
    with pytest.raises(ValueError, match=r"must have one length|is shorter than"):
        frame([b"a", b"b"], [b"c"])


@pytest.mark.parametrize("wrong", [["text"], [None], [bytearray(b"x")], 7], ids=str)
def test_what_is_no_bytes_is_refused(wrong):
    with pytest.raises(TypeError):
        _framing.frame(wrong)
    with pytest.raises(TypeError):
        _framing.frame([b"x"] if isinstance(wrong, int) else [b"x"] * len(wrong), wrong)
    with pytest.raises(TypeError):
        _framing.cut(wrong, NO_LIMIT)


def test_no_records_are_no_bytes():
    for frame in (_framing.frame, frame_in_python):
        assert frame([]) == frame([], []) == b""
    assert cut_both(b"", NO_LIMIT) == ([], 0, 1, 0, 0)


def test_nothing_is_leaked_and_threads_do_not_disturb_each_other():
    records = [LONG[: 7 * i] for i in range(1, 300)]  # b"" is shared by all
    buffer = frame_in_python(records)
    before = [sys.getrefcount(record) for record in records]

    def work(_):
        assert _framing.frame(records) == buffer
        assert _framing.cut(buffer, NO_LIMIT)[0] == records

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(100)))
    assert [sys.getrefcount(record) for record in records] == before


def test_joined_records_are_a_sequence():
    joined = JoinedRecords([b"a", b"b", b"c"], [b"1", b"2", b"3"])
    assert list(joined) == [b"a1", b"b2", b"c3"]
    assert joined == [b"a1", b"b2", b"c3"] != joined[:2]
    assert (len(joined), joined[1], joined[-1], joined[:2]) == (3, b"b2", b"c3", [b"a1", b"b2"])


def test_cache_of_lengths_is_bounded(monkeypatch):
    monkeypatch.setattr(framing, "_MAX_CACHED_LENGTHS", 3)
    lengths = framing._Lengths()
    for size in range(10):
        header = framing.header(size)
        assert lengths[header] == lengths[header] == size
        assert len(lengths) <= 3


def test_what_it_costs_to_have_no_compiler_is_said_when_the_module_is_loaded(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, _framing.__name__, None)
    monkeypatch.delattr("bulk_inferencer._formats._framing")
    spec = importlib.util.find_spec(framing.__name__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.is_compiled
    assert module.cut is module.cut_in_python
    (message,) = caplog.messages
    assert message.startswith("This package was built without a C compiler here (")
    assert message.endswith(
        "), so it takes up to a quarter more CPU time. Install a compiler, and then the package "
        "again."
    )
