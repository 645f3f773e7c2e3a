"""The input files of a run: which they are, and which should not be."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence

from bulk_inferencer import _files, _layout, _patterns
from bulk_inferencer._files import Stored
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer.errors import InputError, SettingsError

_logger = logging.getLogger(__name__)

_MOST_NAMED = 3
_A_SHARD = _layout.shard_name(0, 1)


def list_files(split: str, patterns: Sequence[str], allow_none: bool = False) -> list[InputFile]:
    """Returns the files of a split that match any of its patterns, sorted by path.

    What a wildcard matches is left out if its name, or that of a folder that a wildcard matches,
    begins with `.` or `_`. A pattern that is the name of a file means that file.

    Args:
      split: its name, for messages.
      patterns: paths, and patterns as Beam writes them.
      allow_none: whether a pattern may match nothing.

    Raises:
      InputError: a pattern matches nothing, a file is listed twice or cannot be read, or a pattern
        matches results of an earlier run.
    """
    patterns = list(map(_whole, patterns))
    if "" in patterns:
        raise InputError(
            f"A path of split '{split}' is empty text. Correct it; '.' is this folder."
        )
    # There may be very many, each a request to an object store.
    matches = _files.in_parallel(functools.partial(_find, split), patterns)
    identities = _files.identities(path for files, _ in matches for path in files)
    found: list[InputFile] = []
    spellings: dict[str, str] = {}
    for path, file in itertools.chain.from_iterable(files.items() for files, _ in matches):
        if file.bytes == _files.NO_FILE:
            raise InputError(
                f"{path} of split '{split}' is not a regular file: it is a broken link, a pipe or "
                f"a device. Put the file there, or leave it out."
            )
        if not _files.is_utf8(path):
            raise InputError(
                f"The name {path!r} of a file of split '{split}' is not UTF-8. Rename it."
            )
        identity = identities[path]
        if identity in spellings:
            raise _listed_twice(split, spellings[identity], path, patterns)
        spellings[identity] = path
        found.append(InputFile(path, file.bytes, file.modified))
    missing = [pattern for pattern, (files, _) in zip(patterns, matches, strict=True) if not files]
    hidden = sum(count for _, count in matches)
    if hidden:
        _logger.info(
            "Split '%s': skipped %d files that begin with '.' or '_', or are in folders that do.",
            split,
            hidden,
        )
    if not allow_none and (missing or not patterns):
        raise _nothing_found(split, missing, hidden)
    return sorted(found, key=lambda file: file.path)


def check_apart(splits: Mapping[str, Sequence[str]], folders: Sequence[str]) -> None:
    """Checks that no pattern of the inputs matches what a run writes into its folders.

    Raises:
      SettingsError: one does, so that the next run would score the results of this one.
    """
    names = [name for split in splits for name in _result_names(split)]
    roots = _files.identities(folder.rstrip("/") for folder in folders)
    listed = [(split, _in_case_of_folder(p)) for split, own in splits.items() for p in own]
    starts = _files.identities({_patterns.fixed_folder(pattern) for _, pattern in listed})
    for split, pattern in listed:
        start = _patterns.fixed_folder(pattern)
        absolute = _files.literal(starts[start]) + "/" + pattern[len(start) :]
        fixed = _patterns.fixed_folder(absolute)
        for folder, root in roots.items():
            within = root.rstrip("/") + "/"
            if not (within.startswith(fixed) or fixed.startswith(within)):
                continue
            paths = (posixpath.join(root, name) for name in names)
            if any(_means(absolute, path) for path in paths):
                raise SettingsError(
                    f"The output folder {folder} lies where {pattern} of split '{split}' looks for "
                    f"inputs, so the next run would take in the results of this one. Choose "
                    f"another folder, or a pattern that does not match there."
                )


def _whole(pattern: str) -> str:
    """Returns a pattern of files: a folder with a `/` at its end means all files below it."""
    if not pattern.endswith("/"):
        return pattern
    return f"{_files.literal(pattern)}/**" if os.path.isdir(pattern) else f"{pattern}**"


def _in_case_of_folder(pattern: str) -> str:
    """Returns what a pattern means if it, or what looks like one, is the name of a folder."""
    pattern = _whole(pattern)
    if _patterns.has_wildcard(pattern) and not os.path.isdir(pattern):
        return pattern
    return f"{_files.literal(pattern)}/**"


def _means(pattern: str, path: str) -> bool:
    return bool(_patterns.compiled(pattern).fullmatch(path)) and not _is_hidden(pattern, path)


def _result_names(split: str) -> list[str]:
    return [
        _layout.SUMMARY_FILE,
        _layout.STATISTICS_FILE,
        _layout.COMPARISON_FILE,
        _layout.failures(split),
        *(
            _layout.prediction_logs(split, _A_SHARD, compression)
            for compression in _layout.COMPRESSIONS
        ),
        _layout.failed_examples(split, _A_SHARD),
        _layout.output_examples(split, _A_SHARD),
        *(_layout.prediction_table(split, _A_SHARD, own) for own in _layout.TABLE_FORMATS),
        *(_layout.failure_table(split, _A_SHARD, own) for own in _layout.TABLE_FORMATS),
    ]


def _find(split: str, pattern: str) -> tuple[dict[str, Stored], int]:
    """Returns the files that a pattern means, and how many others it skips."""
    with _listing(pattern):
        named = _files.stored(pattern)
        if named is None and not _patterns.has_wildcard(pattern):
            pattern = f"{_files.literal(pattern)}/**"  # a folder, if anything
        matches = _files.matching(pattern) if _patterns.has_wildcard(pattern) else {}
        if named is None and not matches and os.path.isdir(pattern):  # such as "data [2024]"
            pattern = f"{_files.literal(pattern)}/**"
            matches = _files.matching(pattern)
    if named is not None:
        if pattern in matches and len(matches) > 1:
            raise InputError(
                f"{pattern} of split '{split}' is the name of a file, and as a pattern it also "
                f"matches {len(matches) - 1} others. Rename the file, or name it as "
                f"{_files.literal(pattern)}."
            )
        return {pattern: named}, 0
    files = {path: file for path, file in matches.items() if not _is_hidden(pattern, path)}
    for path in files:
        if _layout.is_no_input(posixpath.basename(path)):
            raise InputError(
                f"{pattern} of split '{split}' matches {path}, a result of an earlier run, which "
                f"is no input. Move the results elsewhere, or choose a pattern that does not match "
                f"them."
            )
    return files, len(matches) - len(files)


@contextlib.contextmanager
def _listing(pattern: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise InputError(
            f"Cannot list {pattern}: {_files.cause(error)}. Check that it exists and that you may "
            f"read it."
        ) from error


def _is_hidden(pattern: str, path: str) -> bool:
    """Returns whether a wildcard has matched a name that begins with `.` or `_`."""
    start = len(_patterns.fixed_folder(pattern))
    segments = list(filter(None, pattern[start:].split("/")))
    names = list(filter(None, path[start:].split("/")))
    deep = next((i for i, segment in enumerate(segments) if "**" in segment), None)
    if deep is not None:  # It stands for any number of names, of which it names none.
        unnamed = len(names) - len(segments)
        segments[deep + 1 : deep + 1] = [""] * unnamed
    pairs = zip(names, segments, strict=False)
    return any(name[0] in "._" and segment[:1] != name[0] for name, segment in pairs)


def _listed_twice(split: str, one: str, other: str, patterns: Sequence[str]) -> InputError:
    listed = ", ".join(patterns[:_MOST_NAMED]) + (", ..." if len(patterns) > _MOST_NAMED else "")
    if one == other:
        return InputError(
            f"Two patterns of split '{split}' match {one}, so it would be scored twice. Remove one "
            f"of them: {listed}."
        )
    return InputError(
        f"{one} and {other} are the same file, so it would be scored twice. Leave out one of them "
        f"in split '{split}': {listed}."
    )


def _nothing_found(split: str, missing: Sequence[str], hidden: int) -> InputError:
    if not missing:
        return InputError(f"Split '{split}' lists no files. Name some, or set allow_empty_splits.")
    first = ", ".join(missing[:_MOST_NAMED])
    more = f" and {len(missing) - _MOST_NAMED} others" if len(missing) > _MOST_NAMED else ""
    hint = ""
    if hidden:
        hint = (
            f" Files were skipped because their names begin with '.' or '_': {hidden}. Name them "
            f"exactly to score them."
        )
    return InputError(
        f"There are no files for split '{split}' at {first}{more}.{hint} Correct the path, leave "
        f"it out, or set allow_empty_splits if there may be none."
    )
