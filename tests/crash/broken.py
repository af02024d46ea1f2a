"""Faults that a package could have, to see that the crash suite finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rewind_logger.history import recovery
from rewind_logger.history.delivery import Delivery
from rewind_logger.history.journals.abandoned import Abandoned
from rewind_logger.history.journals.journal import Journal
from rewind_logger.history.journals.outbox import Outbox


class Broken(NamedTuple):
    """A fault."""

    break_it: Callable[[], None]
    scenario: str
    """In which it shows …"""
    seen_as: str
    """… and as what."""


def _replace(owner: object, **replaced: Any) -> None:
    """Replace what the package has, in this process."""
    for name, value in replaced.items():
        setattr(owner, name, value)


def rows_wait_in_memory() -> None:
    """A journal that is written when a batch is closed, and not before."""
    append, close = Journal.append, Journal.close_part
    held: list[bytes] = []

    def hold(journal: Journal, data: bytes) -> None:
        held.append(data)

    def write(journal: Journal, *args: Any) -> Any:
        while held:
            append(journal, held.pop(0))
        return close(journal, *args)

    _replace(Journal, append=hold, close_part=write)


def journals_are_dropped_too_early() -> None:
    """A batch that is let go before it is in the store."""
    flush = Delivery._flush_first

    def drop_first(delivery: Delivery, term: Any, outbox: Outbox) -> None:
        part = outbox._closed[0]
        put = term.put

        def drop_and_put(*args: Any) -> Any:
            part.drop()
            return put(*args)

        term.put = drop_and_put
        flush(delivery, term, outbox)
        term.put = put

    _replace(Delivery, _flush_first=drop_first)


def journals_are_brought_in_from_their_beginning() -> None:
    """What a killed writer had flushed comes in once more."""
    state = recovery._state

    def forget(one: Abandoned, head: Any, view: Any) -> Any:
        found, belongs = state(one, head, view)
        return found.__class__(nonce=found.nonce, first={}, start=found.start), belongs

    _replace(recovery, _state=forget)


def journals_are_not_looked_for() -> None:
    """A rewind that archives without them."""
    _replace(recovery, recover=lambda *args, **options: [])


BROKEN = {
    "memory": Broken(rows_wait_in_memory, "new", "not ["),
    "dropped": Broken(journals_are_dropped_too_early, "flush", "not ["),
    "doubled": Broken(journals_are_brought_in_from_their_beginning, "flush", "not ["),
    "left": Broken(journals_are_not_looked_for, "recover_and_rewind", "not ["),
}
