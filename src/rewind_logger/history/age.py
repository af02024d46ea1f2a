"""Age: how long rows wait in their journal, unless a flush is asked for."""

from __future__ import annotations

from rewind_logger.history.journals.outbox import Outbox

LOCAL_AGE_S = 1.0
"""On a local store a row waits so long at most."""

REMOTE_AGE_S = (1.0, 30.0)
"""On a remote store a row waits between these: a twentieth of the time for which the term has been open, so that the
first minutes can be watched and a long run makes few requests."""

PATIENT_AGE_S = (60.0, 300.0)
"""How long rows of a patient stream wait, if no others come: on a local store, and on a remote one."""


def due(outbox: Outbox, *, local: bool, opened_at: float) -> float | None:
    """Return when the next flush is due, on the monotonic clock; None if nothing waits.

    Args:
        outbox: What waits.
        local: Whether the store is a local one.
        opened_at: When the term was opened, on the same clock.
    """
    if outbox.full:
        return 0.0
    since = outbox.pressing
    if since is None:
        return None if outbox.since is None else outbox.since + PATIENT_AGE_S[not local]
    if local:
        return since + LOCAL_AGE_S
    least, most = REMOTE_AGE_S
    return since + min(most, max(least, (since - opened_at) / 20))
