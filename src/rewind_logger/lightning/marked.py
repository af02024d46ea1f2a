"""Where the run lies that a mark names.

A store may have been moved since the checkpoint was saved, so a run is recognised by the nonce of the claim under which
it was logging.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewind_logger.errors import CorruptError, RewindError
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims
from rewind_logger.lightning.mark import Mark
from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.redact import host_of


def is_in(mark: Mark, storage: Storage) -> bool:
    """Say whether the run that was logging lies in this store."""
    paths = RunPaths(mark.run)
    try:
        claim = claims.read(storage, paths, mark.claim)
    except CorruptError:  # its term's folder has its nonce, too
        return bool(storage.list(paths.term(mark.claim, mark.claim_nonce)))
    mine = claim is not None and claim.nonce == mark.claim_nonce
    return mine and not claims.was_removed(storage, mark.run, mark.claim)


def own_store(mark: Mark, asked: Storage, storage_options: Mapping[str, Any] | None) -> Storage | None:
    """Return the store that a mark names, if the run can still be read there.

    Args:
        mark: Of a checkpoint that somebody else may have written.
        asked: The store that the options were given for. They are not sent to another host.
        storage_options: What opens it.
    """
    options = storage_options if host_of(mark.store) in (None, host_of(asked.url)) else None
    try:
        storage = open_storage(mark.store, options)
        return storage if is_in(mark, storage) else None
    except RewindError:
        return None
