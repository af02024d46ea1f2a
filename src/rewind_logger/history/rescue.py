"""What a person can do about rows that are kept in a journal: the command, for messages."""

from __future__ import annotations


def sync_command(store: str, *, as_fork: bool = False) -> str:
    """Return the command that brings the journals of a store in.

    Args:
        store: Its URL.
        as_fork: Whether those that no longer belong to their run become runs of their own.

    Example:
        >>> print(sync_command("s3://bucket/exp", as_fork=True))
        python -c "import rewind_logger; rewind_logger.sync('s3://bucket/exp', as_fork=True)"
    """
    return f'python -c "import rewind_logger; rewind_logger.sync({store!r}{", as_fork=True" if as_fork else ""})"'
