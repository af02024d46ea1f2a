"""Where the run lies that a mark names.

A store may have been moved since the checkpoint was saved, so a run is recognised by the nonce of the claim under which
it was logging; or, where its store was away by then, by that of the journal in which its rows waited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rewind_logger.errors import ConfigError, CorruptError, RewindError
from rewind_logger.format.documents import MAX_CLOCK, Base
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims
from rewind_logger.history.late_opening import place
from rewind_logger.history.rescue import sync_command
from rewind_logger.lightning.mark import Mark
from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.redact import host_of


def is_in(mark: Mark, storage: Storage) -> bool:
    """Say whether the run that was logging lies in this store."""
    if not mark.opened:
        return find(mark, storage) is not None
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


def settled(mark: Mark, asked: Storage, storage_options: Mapping[str, Any] | None) -> Mark | None:
    """Return a mark that says where it stands, also if its checkpoint was saved while the store was away.

    Returns:
        The mark; None if the rows that were logged up to the checkpoint are in neither store: then nobody knows.

    Raises:
        StorageError: If the store that was asked fails.
    """
    if mark.opened:
        return mark
    found = find(mark, asked)
    if found is None and (other := own_store(mark, asked, storage_options)) is not None:
        found = find(mark, other)
    return found


def unsettled(mark: Mark, checkpoint: object) -> ConfigError:
    """Return the error for a checkpoint of which nobody knows where it stands."""
    return ConfigError(
        f"{checkpoint} was saved while {mark.store} was away, and what run {mark.run} had logged by then has not come "
        "into it since: where the checkpoint stands in the run is not known. Bring it in, on the machine that trained: "
        f"{sync_command(mark.store)}"
    )


def find(mark: Mark, storage: Storage) -> Mark | None:
    """Return where a checkpoint stands that was saved while the store was away; None if its rows are not there."""
    paths = RunPaths(mark.run)
    for base in claims.bases(storage, mark.run, claims.count(storage, paths)):
        if isinstance(base, Base) and (found := in_term(mark, base)) is not None:
            return found
    return None


def in_term(mark: Mark, base: Base) -> Mark | None:
    """Return where a checkpoint stands that was saved while the store was away, if its rows came into this term."""
    if mark.claim_nonce == base.nonce:
        start = base.start
    elif base.recovery is not None and base.recovery.nonce == mark.claim_nonce:
        start = base.recovery.start
    else:
        return None
    next_step = place(mark.next_step, start, steps_given=not mark.counted)
    return replace(
        mark,
        revision=base.revision,
        claim=base.number,
        claim_nonce=base.nonce,
        next_step=min(next_step, MAX_CLOCK),
        opened=True,
        counted=False,
    )
