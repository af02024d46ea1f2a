"""A late opening: that of a run whose store is away when it is to be opened.

What is logged meanwhile waits in the journal, with clocks that are counted from 0, and gets its place once it is known
where the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rewind_logger.errors import CorruptError, FencedError, FormatVersionError, RewindError, StorageError
from rewind_logger.history import claims
from rewind_logger.history.opening import Opened, OpenRequest
from rewind_logger.storage.base import Storage
from rewind_logger.storage.wrapper import WrapperStorage
from rewind_logger.types import OPENING_CLOCK


class LateOpening(NamedTuple):
    """An opening that waits for its store."""

    request: OpenRequest
    """What is wanted of the run: to begin it, or to go on with it."""
    opened: Callable[[Opened], None]
    """Called when it was made, while no row can come."""
    afterwards: Callable[[], None]
    """Called then, when rows can."""

    def attempt(
        self,
        storage: Storage,
        claim: Callable[[Storage, OpenRequest], Opened],
        wanted: Callable[[], bool],
        journal: str | None = None,
    ) -> Opened | None:
        """Make it, if the store answers by now.

        Args:
            storage: The store.
            claim: Opens the run.
            wanted: Whether it is still to be made.
            journal: Where the rows wait, for messages.

        Returns:
            What was opened; None if that was no longer wanted when the run was to be claimed.

        Raises:
            FencedError: If another writer opened the run at this moment; or if the run is such that it is never opened
                by this request.
            StorageError: If the store is still away, or what it holds cannot be read: both may pass.
        """
        try:
            return claim(_Wanted(storage, wanted), self.request)
        except _UnwantedError:
            return None
        except (FencedError, StorageError):
            raise
        except (CorruptError, FormatVersionError) as error:
            raise StorageError(str(error)) from error
        except RewindError as error:  # such as that it is a fork of another store, and was not finished
            raise FencedError(
                f"{error} So the run is not opened, and this writer writes nothing to the store.{claims.kept(journal)}"
            ) from error


class _UnwantedError(Exception):
    """The run was to be claimed for a writer that was closed."""


class _Wanted(WrapperStorage):
    """A store in which nothing is claimed for a writer that was closed: others may have opened the run since.

    That is asked before each claim, of whatever number. A request that is under way then cannot be called back, nor
    what the layers below do to get it through: the number was free when the journal was still ours.
    """

    def __init__(self, inner: Storage, wanted: Callable[[], bool]) -> None:
        super().__init__(inner)
        self._wanted = wanted

    def create(self, path: str, data: bytes) -> bool:
        """See `Storage.create`; nothing but claims is created."""
        if not self._wanted():
            raise _UnwantedError
        return self.inner.create(path, data)


def place(clock: int, start: int, steps_given: bool) -> int:
    """Return where a clock that was counted from 0 belongs in a run that goes on at `start`.

    Where steps were counted by the run they go on from there, as they would have. Where they were given they are what
    they are, and those that lie before `start` stand there. What belongs to the opening itself stays with it.
    """
    if clock == OPENING_CLOCK:
        return clock
    return max(clock, start) if steps_given else clock + start
