"""Does a store refuse to create what exists, and what is weaker if not?"""

from __future__ import annotations

from rewind_logger.storage.base import Storage


def is_conditional(storage: Storage, path: str, data: bytes) -> bool:
    """Find out whether `create` of a store never replaces an object.

    Some servers and backends ignore the condition and report success to everyone; then two writers can both believe
    that a claim is theirs. This costs one request, none where the answer is known from how the backend is made.

    Args:
        storage: The store to ask.
        path: An object that the caller has just created there.
        data: The very bytes it was created with. They are offered again: whatever the answer, the object stays as it
            is.

    Returns:
        True if the store refused to create the object a second time.

    Raises:
        StorageError: If the store failed before it could answer.

    Example:
        >>> from rewind_logger.storage.memory import MemoryStorage
        >>> storage = MemoryStorage("memory://probe-example")
        >>> storage.create("claim", b"mine") and is_conditional(storage, "claim", b"mine")
        True
    """
    if storage.conditional is not None:
        return storage.conditional
    return not storage.create(path, data)


def weakness(url: str) -> str:
    """Say what is weaker in a store whose `create` may replace what exists.

    Args:
        url: Of the store, for people.
    """
    return (
        f"{url} may replace objects that it was asked only to create: two processes that open the same run in the same"
        " moment may both believe that it is theirs, and the rows of one would be lost; everything else holds."
    )
