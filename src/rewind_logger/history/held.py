"""Who holds a lock: a signal's handler must not wait for what the thread does that it has come into."""

from __future__ import annotations

import threading


def is_held_here(lock: threading.RLock) -> bool:
    """Whether this very thread holds a lock, as a signal's handler finds that has come into what is done under it.

    The lock itself knows, in the same instant in which it is taken or given back. Of what is noted beside it, a handler
    can come between the one and the other.
    """
    try:
        threading.Condition(lock).notify(0)  # which wakes nobody, and is refused to who does not hold the lock
    except RuntimeError:
        return False
    return True
