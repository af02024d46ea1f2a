"""`verify` finds what is against the protocol, though each object is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rewind_logger.format import documents, names
from rewind_logger.format.documents import Base, decode_base, encode_base
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims, opening
from rewind_logger.history.verify import verify
from rewind_logger.history.view import resolve
from rewind_logger.storage.base import Storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.history.lines import RUN, end, log, opened, rewound
from tests.history.verifying.verified import FORK, only, paths, terms


def rebase(storage: Storage, change: Callable[[Base], Base], run: RunRef = RUN) -> str:
    """Write the base of the head anew, with a right checksum; return its path."""
    path = names.base(terms(storage, run)[-1])
    storage.put(path, encode_base(change(decode_base(storage.read(path), run, path)), run))
    return path


def earlier_seal(base: Base) -> Base:
    first, *others = base.lineage
    return replace(base, lineage=(replace(first, sealed={s: n - 1 for s, n in first.sealed.items() if n}), *others))


def later_cut(base: Base) -> Base:
    *others, last = base.lineage
    return replace(base, lineage=(*others, replace(last, cut=0)))


def without_parent(base: Base) -> Base:
    return replace(base, lineage=base.lineage[1:])


def twice(base: Base) -> Base:
    return replace(base, lineage=(*base.lineage, base.lineage[0]))


def of_another_claim(base: Base) -> Base:
    return replace(base, number=base.number + 1)


def another_history(base: Base) -> Base:
    first, *others = base.revisions
    return replace(base, revisions=(replace(first, sealed={"metrics": 0}), *others))


def without_revision(base: Base) -> Base:
    return replace(base, revisions=base.revisions[1:])


def other_plan(base: Base) -> Base:
    plan = {
        folder: {s: [(name, size + 1) for name, size in files] for s, files in streams.items()}
        for folder, streams in base.plan.items()
    }
    assert plan
    return replace(base, plan=plan)


BREAKS: dict[Callable[[Base], Base], str] = {
    earlier_seal: "sealed at",
    later_cut: "cut at a later step",
    without_parent: "not what that folder was built on",
    twice: "names a folder twice",
    of_another_claim: "base of claim",
    another_history: "other things of revisions|sealed at",
    without_revision: "has the number",
    other_plan: "A base says that it is read",
}


@pytest.mark.parametrize("change", BREAKS, ids=lambda change: change.__name__)
def test_a_base_that_breaks_the_protocol_is_found(change: Callable[[Base], Base], memory: MemoryStorage) -> None:
    for cut in (None, 6, None):
        writer = opened(memory) if cut is None else rewound(memory, cut)
        log(writer, range(writer.next_step, writer.next_step + 8))
        writer.append("events", {"config": "{}"}, writer.next_step)
        writer.flush()
        log(writer, range(writer.next_step, writer.next_step + 4))
        writer.flush()
        writer.close()
    opened(memory).close()
    assert verify(memory).ok
    rebase(memory, change)
    found = verify(memory).problems
    assert any(part in problem.what for problem in found for part in BREAKS[change].split("|")), found


def test_a_fork_that_begins_elsewhere_and_one_whose_parent_does_not_know_it(filled: MemoryStorage) -> None:
    pin = next(iter(paths(filled, RunPaths(RUN).pins)))
    nonce = RunPaths(RUN).parse_pin(pin.rpartition("/")[2]) or ""
    filled.put(pin, documents.encode_pin(RunRef("p", "z"), RUN, nonce))
    assert (only(verify(filled)).harm, only(verify(filled)).path) == ("risk", pin)
    filled.put(pin, documents.encode_pin(FORK, RUN, nonce))
    rebase(filled, lambda base: replace(base, revisions=(replace(base.revisions[0], cut=3),)), FORK)
    assert "was to be forked from p/a@2?_step=24" in only(verify(filled)).what


def test_a_term_without_a_claim_is_found(filled: MemoryStorage) -> None:
    """In a store that replaces what it was asked only to create, the second of two writers takes the first one's."""
    path = RunPaths(RUN).claim(3)
    claim = claims.read(filled, RunPaths(RUN), 3)
    assert claim is not None
    filled.put(path, documents.encode_claim(replace(claim, nonce="0123456789abcdef")))
    assert any(
        problem.path == terms(filled)[3] and "No claim bears" in problem.what for problem in verify(filled).problems
    )


def test_a_claim_that_is_missing_or_empty_though_its_term_is_there_is_found(filled: MemoryStorage) -> None:
    paths = RunPaths(RUN)
    last = len(terms(filled)) - 1
    data = filled.read(paths.claim(last))
    filled.delete(paths.claim(last))
    problem = next(problem for problem in verify(filled).problems if problem.path == terms(filled)[last])
    assert "Its claim is missing" in problem.what and "before anybody opens the run" in problem.remedy
    filled.put(paths.claim(last), b"")
    problem = only(verify(filled))
    assert (problem.path, problem.harm) == (paths.claim(last), "risk") and "It is empty" in problem.what
    filled.put(paths.claim(last), data)
    assert verify(filled).ok


def test_two_openings_that_overtook_each_other_are_no_problem(memory: MemoryStorage, monkeypatch: Any) -> None:
    first = opened(memory)
    log(first, range(4))
    first.flush()
    publish = opening.publish

    def overtaken(storage: Storage, made: Any, journal: str | None) -> None:
        monkeypatch.setattr(opening, "publish", publish)
        log(first, range(4, 8))  # comes in between the two looks at where the first term ends
        with pytest.raises(RuntimeError):
            first.flush()
        end(rewound(memory, 2))
        publish(storage, made, journal)

    monkeypatch.setattr(opening, "publish", overtaken)
    with pytest.raises(RuntimeError):
        rewound(memory, 3)
    assert resolve(memory, RUN).revision == 2
    assert verify(memory).ok, verify(memory)
