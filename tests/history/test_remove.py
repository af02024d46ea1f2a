"""Runs are removed as a whole or not at all, and never what anybody else needs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from rewind_logger.errors import ConfigError, FencedError, RunNotFoundError
from rewind_logger.format import documents, names
from rewind_logger.format.documents import Source
from rewind_logger.format.names import RunPaths
from rewind_logger.history import blobs, catalog, claims
from rewind_logger.history.collect import collect
from rewind_logger.history.opening import OpenRequest, new_claim
from rewind_logger.history.remove import Removed, remove_run
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import Position, Row, RunRef
from tests.figures import count
from tests.history.clocked import DAY, Clocked, flushes, objects
from tests.history.lines import RUN, end, forked, line, log, opened, read, rewound
from tests.history.machine import Killed, Machine, dying, requests_of
from tests.history.removing import CHILD, assert_sound, fill, removed

pytestmark = pytest.mark.usefixtures("one_segment_a_step")


def test_a_removed_run_is_gone_and_its_name_is_free(store: Clocked) -> None:
    fill(store)
    done = removed(store)
    assert done.objects > 10
    assert "p/a" in str(done) and "was removed" in str(done)
    with pytest.raises(RunNotFoundError, match=r"no run p/a .* removed on"):
        read(store)
    with pytest.raises(RunNotFoundError):
        read(store, 1)
    assert catalog.runs(store) == []
    assert set(objects(store)) == {"p/a/removed.json", *(f"p/a/m/0000000{n}.json" for n in range(3))}
    with pytest.raises(RunNotFoundError, match="removed"):
        removed(store)
    with pytest.raises(RunNotFoundError, match="removed"):
        opened(store, resume="must")
    assert_sound(store)
    again = opened(store, resume="never")
    assert (again.opened.kind, again.opened.revision, again.opened.start) == ("new", 1, 0)  # type: ignore[union-attr]
    log(again, [0, 1], turn=7)
    end(again)
    end(rewound(store, 1))
    assert read(store) == line([0], turn=7)
    assert catalog.runs(store) == [RUN]
    assert_sound(store)
    assert removed(store).objects > 0
    assert catalog.runs(store) == []


def test_whoever_writes_it_is_told_and_keeps_what_was_not_stored(machine: Machine) -> None:
    fill(machine)
    live = opened(machine)
    flushes(live, [5])
    log(live, [6, 7])
    removed(machine)
    with pytest.raises(FencedError, match=r"p/a was removed by process .* kept in "):
        live.flush()
    live.close()
    assert catalog.runs(machine) == []
    # Its rows do not come into a new run of that name.
    again = opened(machine)
    assert (again.opened.kind, again.opened.notes) == ("new", ())  # type: ignore[union-attr]
    log(again, [0])
    end(again)
    third = opened(machine)
    assert "are kept in" in str(third.opened.notes)  # type: ignore[union-attr]
    assert read(machine) == line([0])


def test_no_zombie_brings_anything_back(store: Clocked) -> None:
    """Everything that a writer may still put after its run was removed, and after another began under that name."""
    zombie = opened(store)
    flushes(zombie, range(3))
    torn = new_claim("abcd", "opened", "")
    store.create(RunPaths(RUN).claim(1), documents.encode_claim(torn))
    base = documents.decode_base(store.read(names.base(resolve(store, RUN).folder)), RUN, "")
    removed(store)
    for again in (False, True):
        if again:
            writer = opened(store)
            flushes(writer, [0])
        before = read(store) if again else []
        term = zombie._delivery.term
        assert term is not None
        term.put({"metrics": 3}, {"metrics": [Row(3, 3, None, 0, {"a": 3})]})
        with pytest.raises(FencedError):
            term.end("finished", 3)
        late = documents.encode_base(
            documents.Base(
                number=1,
                nonce="abcd",
                revision=1,
                start=3,
                lineage=base.lineage,
                revisions=base.revisions,
                created_ms=base.created_ms,
            ),
            RUN,
        )
        store.put(names.base(RunPaths(RUN).term(1, "abcd")), late)
        with pytest.raises(FencedError):
            term.check_owner()
        if again:
            assert read(store) == before == line([0])
        else:
            assert catalog.runs(store) == []
            with pytest.raises(RunNotFoundError):
                read(store)
    store.time += 8 * DAY
    collect(store, dry_run=False)
    assert not [path for path in objects(store) if "/t/00000000-" in path or "/t/00000001-" in path]
    assert read(store) == line([0])


def test_it_is_refused_while_forks_need_it(store: Clocked) -> None:
    fill(store)
    for name in ("b", "c"):
        end(forked(store, name, 3, revision=1))
    end(forked(store, "d", 2, of=CHILD))
    before = objects(store)
    with pytest.raises(ConfigError, match=r"p/a cannot be removed .*: p/b, p/c, p/d need rows of it.*adopt=True"):
        removed(store)
    assert objects(store) == before
    for name in ("c", "d", "b"):
        removed(store, RunRef("p", name))
    removed(store)
    assert catalog.runs(store) == []


def test_forks_that_adopt_what_they_need_stand_alone(store: Clocked) -> None:
    fill(store)
    fork = forked(store, "b", 3, revision=1)
    log(fork, [3], turn=5)
    end(fork)
    kept = line(range(3)) + line([3], turn=5)
    done = removed(store, adopt=True)
    assert done.forks == ("p/b",)
    assert "stays, as theirs: p/b" in str(done)
    assert catalog.runs(store) == [CHILD]
    assert read(store, run=CHILD) == kept
    assert not [path for path in objects(store) if path.startswith("p/a/") and "_9.parquet" in path], "nobody shows it"
    store.time += 8 * DAY
    collect(store, dry_run=False)
    assert read(store, run=CHILD) == kept
    end(rewound(store, 2, run=CHILD))
    assert read(store, run=CHILD) == line(range(2))
    assert read(store, 1, run=CHILD) == kept
    assert_sound(store)
    # A new run of that name has nothing to do with them.
    writer = opened(store)
    log(writer, [0], turn=9)
    end(writer)
    removed(store, CHILD)
    store.time += 8 * DAY
    collect(store, dry_run=False)
    assert read(store) == line([0], turn=9)
    assert len([path for path in objects(store) if path.startswith("p/a/t/")]) < 5, "what the fork had needed is gone"


def test_a_fork_that_is_being_made_is_waited_for(store: Clocked) -> None:
    fill(store)
    paths = RunPaths(CHILD)
    store.put(RunPaths(RUN).pin("abcd"), documents.encode_pin(CHILD, RUN, "abcd"))
    for adopt in (False, True):
        with pytest.raises(ConfigError, match="p/b is being forked from it"):
            removed(store, adopt=adopt)
    source = Source(run=str(RUN), revision=1, cut=3)
    claim = documents.Claim(nonce="abcd", kind="forked", created_ms=0, host="h", pid=1, source=source)
    store.create(paths.claim(0), documents.encode_claim(claim))
    for revision in (None, 1):
        with pytest.raises(ConfigError, match="p/b was begun and not finished"):
            removed(store, revision=revision, adopt=True)
    end(opened(store, CHILD))
    removed(store, adopt=True)
    assert read(store, run=CHILD) == line(range(3))


def test_a_fork_that_comes_too_late_is_refused(store: Clocked) -> None:
    """It looked at its parent before that was removed, and put its pin after."""
    fill(store)

    class Late(Clocked):
        def put(self, path: str, data: bytes) -> None:
            if "/pins/" in path:
                remove_run(store, RUN, dry_run=False)
            super().put(path, data)

    late = Late(store.inner)
    late.written = store.written
    with pytest.raises(RunNotFoundError, match="removed"):
        forked(late, "b", 3)
    assert catalog.runs(store) == []


@pytest.mark.parametrize("again", [False, True])
def test_a_removal_that_is_cut_short_anywhere_can_be_continued(
    memory: MemoryStorage, tmp_path: Path, again: bool
) -> None:
    def prepare(number: int) -> Storage:
        storage = Machine(MemoryStorage(f"{memory.url}/{again}/{number}"), tmp_path / str(number))
        fill(storage)
        end(forked(storage, "b", 3, revision=1))
        if again:
            removed(storage, adopt=True)
            fill(storage)
        return storage

    def work(storage: Storage) -> Removed:
        return remove_run(storage, RUN, dry_run=False, adopt=True)

    total = requests_of(prepare(-1), work)
    stages = set()
    for number in range(0, total, 1 if not again else 7):
        for after in (False, True):
            storage = prepare(2 * number + after)
            with suppress(Killed):
                work(dying(storage, number, after=after))
            count("requests cut short")
            there = catalog.runs(storage) == [RUN, CHILD]
            stages.add(there)
            if there:
                assert read(storage) == line(range(4)) + line([4], turn=1), "all of it"
                assert read(storage, 1) == line(range(10))
            else:
                assert catalog.runs(storage) == [CHILD], "nothing of it"
                with pytest.raises(RunNotFoundError):
                    read(storage, 1)
            assert read(storage, run=CHILD) == line(range(3))
            try:
                work(storage)
            except RunNotFoundError:
                assert not there, "there was nothing left to do"
            assert catalog.runs(storage) == [CHILD]
            assert read(storage, run=CHILD) == line(range(3))
            assert not [path for path in objects(storage) if "_9.parquet" in path and path.startswith("p/a/")]
    assert stages == {False, True}


def test_files_of_a_removed_run_go_with_the_next_collection(store: Clocked) -> None:
    writer = opened(store)
    digest = writer.attach(b"shown")
    writer.append("media", {"picture": f'{{"type": "image", "sha256": "{digest}"}}'}, 0)
    end(writer)
    removed(store)
    assert blobs.exists(store, digest)
    store.time += 8 * DAY
    assert collect(store, dry_run=False).objects == {"files that no row refers to": 1}


def test_a_removed_run_that_is_forked_anew_is_that_fork(store: Clocked) -> None:
    fill(store)
    end(forked(store, "b", 2))
    removed(store, CHILD)
    end(forked(store, "b", 3, revision=1))
    assert read(store, run=CHILD) == line(range(3))
    writer = Writer(store, CHILD, background=False)
    assert writer.open(OpenRequest(at=Position(RUN, 1, 3))).kind == "resumed", "the same command again"
    first = claims.first(store, CHILD)
    assert first is not None and first.source == Source(run=str(RUN), revision=1, cut=3)
    end(rewound(store, 1, run=CHILD))
    assert read(store, run=CHILD) == line(range(1))
