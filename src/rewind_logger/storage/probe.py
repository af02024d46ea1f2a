"""Does a store refuse to create what exists?"""

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
