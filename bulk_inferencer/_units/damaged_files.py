"""What a run does about input files that cannot be read to their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bulk_inferencer._checks import check_number
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results.summary import DamagedFile


@dataclass(frozen=True)
class DamagedFiles:
    """Whether a run goes on past damaged files, and past how many.

    ```python
    DamagedFiles(skip=True, max_count=3)
    ```

    Attributes:
      skip: whether to go on. The records before the damage count, the rest of the file does not,
        and the summary names the file. By default, the first damaged file fails the run.
      max_count: most damaged files of one split; more of them fail the run all the same.

    Raises:
      SettingsError: `skip` is not a truth value, or the count is not a whole number of at least 0.
    """

    skip: bool = False
    max_count: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.skip, bool):
            raise SettingsError(
                f"DamagedFiles.skip must be True or False, not {self.skip!r}. Leave it out to fail "
                f"at the first damaged file."
            )
        advice = "Leave it out for the default."
        check_number("DamagedFiles.max_count", self.max_count, advice, 0, whole=True)


class DamageList:
    """The damaged files of one unit, as they are found."""

    def __init__(self, setting: DamagedFiles, split: str) -> None:
        self._setting = setting
        self._split = split
        self._found: list[DamagedFile] = []

    @property
    def found(self) -> tuple[DamagedFile, ...]:
        """The files, in the order in which they were read."""
        return tuple(self._found)

    def add(self, path: str, error: InputError) -> None:
        """Notes a file.

        Raises:
          InputError: damaged files are not skipped, or there are too many.
        """
        if not self._setting.skip:
            raise error
        self._found.append(DamagedFile(self._split, path, str(error)))
        _check_count(self._setting, self._split, self._found)


def check_damaged_files(
    setting: DamagedFiles, manifests: Sequence[Manifest]
) -> tuple[DamagedFile, ...]:
    """Returns the damaged files of all units, by split and path.

    Raises:
      InputError: a split has more of them than it may.
    """
    found = sorted(file for manifest in manifests for file in manifest.damaged_files)
    if found and not setting.skip:  # An attempt of an earlier run, which skipped them, was first.
        raise InputError(found[0].reason)
    for split in dict.fromkeys(file.split for file in found):
        _check_count(setting, split, [file for file in found if file.split == split])
    return tuple(found)


def _check_count(setting: DamagedFiles, split: str, found: Sequence[DamagedFile]) -> None:
    if len(found) > setting.max_count:
        raise InputError(
            f"More files of split '{split}' are damaged than DamagedFiles.max_count allows, which "
            f"is {setting.max_count}: {len(found)} so far. Mend them, or raise the limit. The "
            f"first: {found[0].reason}"
        )
