"""Attempts: an engine may try a unit again while an earlier attempt is alive. One of them counts.

launcher  makes run file                       reads manifests, commits  deletes run file  tidies up
attempt         any manifest?  writes shards  run file?  writes manifest      run file?

Whoever writes its manifest first has finished the unit: other attempts delete their own shards. The
launcher takes the manifests that are there when it reads them, once, and commits their shards.

An attempt may outlive its run. What it had written when the run file went, the launcher finds and
deletes. If the run file is gone after it has written its manifest, nobody may find what it wrote:
it deletes that itself, unless a later run can go on from it.
"""

from __future__ import annotations

from bulk_inferencer import _files
from bulk_inferencer._units import manifest_files
from bulk_inferencer._units.checkpoint import is_open
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.run_file import RunIsOver, is_run_over
from bulk_inferencer.errors import OutputError


def finish(manifest: Manifest, folder: str, run_file: str = "") -> Manifest:
    """Makes a unit finished whose shards are written, and returns the manifest that counts.

    That is the one of an earlier attempt, if there is any; then the shards of this one go.

    Args:
      manifest: of this attempt.
      folder: where units leave their manifests.
      run_file: the file of the run.

    Raises:
      RunIsOver: nobody wants the unit any more. What is left, a later run can use.
      OutputError: there is no room for the manifest.
    """
    if is_run_over(run_file):
        _delete_shards(manifest)
        raise RunIsOver
    try:
        counts = manifest_files.add_manifest(folder, manifest)
    except OutputError:
        _delete_shards(manifest)  # Nothing would find them again; they take up room.
        raise
    if counts.shards != manifest.shards:
        _delete_shards(manifest)
    elif is_run_over(run_file):
        if not _is_of_use(manifest, folder):
            manifest_files.remove_manifest(folder, manifest)
            _delete_shards(manifest)
        raise RunIsOver
    return counts


def _is_of_use(manifest: Manifest, folder: str) -> bool:
    """Returns whether a later run can use what an attempt has left."""
    return (
        is_open(folder)
        and manifest_files.has_files(manifest)
        and not manifest_files.has_rivals(folder, manifest)
    )


def _delete_shards(manifest: Manifest) -> None:
    for shard in manifest.shards:
        _files.delete(shard.path)
