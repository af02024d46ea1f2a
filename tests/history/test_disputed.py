"""A run that is forked while one opening of it overtakes another may name a revision that never came to be."""

from __future__ import annotations

import pytest

from rewind_logger import open_store
from rewind_logger.errors import FencedError
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims
from rewind_logger.history.opening import build, new_claim, publish
from rewind_logger.history.view import of_base
from rewind_logger.history.writer import Writer
from rewind_logger.storage.faults import Fault, FaultyStorage, Request
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import Position
from tests.history.lines import RUN, forked, log, opened, rewound


def test_a_fork_of_it_keeps_its_rows_and_shows_where_they_are_from(memory: MemoryStorage) -> None:
    paths = RunPaths(RUN)
    first = opened(memory)
    log(first, range(10))
    first.finish("finished")

    def claim_meanwhile(request: Request) -> Fault | None:
        if request.path.endswith("base.json"):
            claims.fence(memory, paths, new_claim("f00d", "opened", ""), 2)
        return None

    with pytest.raises(FencedError):
        rewound(FaultyStorage(memory, claim_meanwhile), 5)
    child: Writer = forked(memory, "child", 4)
    # The other one had looked before the rewind's base was there: for it the run is still at its first revision.
    seen = claims.newest_base(memory, RUN, 1)
    assert seen is not None
    head = of_base(memory, RUN, seen)
    publish(memory, build(RUN, "resumed", 2, "f00d", head, head.next_step, seen.revisions, None), None)

    assert child.opened is not None
    assert child.opened.parent == Position(RUN, 2, 4)
    store = open_store(memory.url)
    assert len(store.run("p/a").revisions) == 1
    assert store.run("p/child").lineage == ["p/a@2?_step=3", "p/child@1"]
    assert store.run("p/child").history().to_arrow()["_step"].to_pylist() == [0, 1, 2, 3]
