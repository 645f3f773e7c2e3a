"""Files each of which is one record."""

from __future__ import annotations

import pytest

from bulk_inferencer._formats.input_format import Chunk, InputFile
from bulk_inferencer._formats.whole_files import WholeFiles
from bulk_inferencer.errors import InputError, SettingsError
from tests.formats.reading import chunks_of, listed, reader_of
from tests.helpers import exactly, in_bucket


@pytest.mark.parametrize("place", [str, in_bucket], ids=["disk", "bucket"])
def test_each_file_is_one_record(tmp_path, place):
    contents = [b"image", b"", b"\0" * 1000]
    local = [listed(tmp_path / f"{i}.jpg", content) for i, content in enumerate(contents)]
    files = [InputFile(place(file.path), file.bytes) for file in local]
    reader = reader_of(WholeFiles(), *files)
    assert [reader.parts(file) for file in files] == [[file] for file in files]
    assert chunks_of(reader, *files) == [
        Chunk(file.path, 0, [content]) for file, content in zip(files, contents, strict=True)
    ]


def test_file_that_is_too_long_or_has_changed_is_an_error(tmp_path):
    file = listed(tmp_path / "x.jpg", b"image")
    reader = reader_of(WholeFiles(), file)
    message = (
        f"Cannot read {file.path} as a whole file: the next record has 5 bytes, but "
        f"BatchBounds.max_record_bytes is 4 (its only record). If records are this long, raise the "
        f"setting. If not, the file is damaged. Write the file again, or leave it out of the "
        f"inputs."
    )
    with pytest.raises(InputError, match=exactly(message)):
        chunks_of(reader, file, max_record_bytes=4)
    for changed in (b"images", b"img"):
        (tmp_path / "x.jpg").write_bytes(changed)
        with pytest.raises(InputError, match=f"^{file.path} had 5 bytes when the run began"):
            chunks_of(reader, file)


def test_there_are_no_columns_to_choose_from():
    message = (
        "columns and rename choose columns of tables, but here each file is one record. Leave them "
        "out: the model takes the bytes of the files."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        reader_of(WholeFiles(), columns=["x"])
