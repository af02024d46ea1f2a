"""A collection removes what nobody can need, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rewind_logger.errors import CorruptError, StorageError
from rewind_logger.format import documents, names
from rewind_logger.format.names import RunPaths
from rewind_logger.history import blobs, opening, store_clock
from rewind_logger.history.collect import Collected, collect
from rewind_logger.history.opening import new_claim
from rewind_logger.history.view import resolve
from rewind_logger.sdk.stored import StoredRun
from rewind_logger.storage.base import Listing, ObjectInfo, Storage
from rewind_logger.storage.faults import CountingStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.wrapper import WrapperStorage
from rewind_logger.types import Position, RunRef
from tests.history.clocked import DAY, Clocked, flushes, objects
from tests.history.lines import RUN, end, forked, line, log, opened, read, rewound
from tests.small import make_small


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact, merge and write snapshots after a few rows."""
    make_small(monkeypatch.setattr, fan_in=3, lineage=4, planned_files=opening.PLANNED_FILES, group_size=1000)


def segments_of(storage: Storage, run: RunRef = RUN) -> list[str]:
    return [path.rpartition("/")[2] for path in objects(storage, RunPaths(run).terms) if "/s/metrics/" in path]


def swept(storage: Storage, grace_s: float = 7 * DAY) -> Collected:
    """Collect; what would be removed was said before, and nothing but that goes."""
    before = objects(storage)
    would = collect(storage, grace_s=grace_s)
    assert objects(storage) == before
    done = collect(storage, grace_s=grace_s, dry_run=False)
    left = objects(storage)
    assert (would.objects, would.bytes) == (done.objects, done.bytes)
    assert left.items() <= before.items() or set(left) - set(before) <= {p for p in left if p.endswith("trimmed.json")}
    assert sum(done.objects.values()) == len(before.keys() - left.keys())
    assert collect(storage, grace_s=grace_s).objects == {}, "nothing is left to be found"
    return done


def test_segments_that_were_put_together_go_and_the_rows_stay(store: Clocked) -> None:
    writer = opened(store)
    flushes(writer, range(9))
    end(writer)
    assert len(segments_of(store)) == 13
    store.time += 8 * DAY
    done = swept(store)
    assert done.objects == {"superseded segments": 12, "older snapshots": done.objects["older snapshots"]}
    assert segments_of(store) == ["000000000-000000008_0_8.parquet"]
    assert read(store) == line(range(9))


@pytest.mark.parametrize("what", ["damaged", "gone"])
def test_what_a_segment_was_put_together_from_stays_where_that_cannot_be_read(what: str, store: Clocked) -> None:
    """It is read in its place until the other was removed, or restored."""
    writer = opened(store)
    flushes(writer, range(9))
    end(writer)
    folder = resolve(store, RUN).folder
    path = f"{names.group(folder, 'metrics', 0)}/000000000-000000008_0_8.parquet"
    data = store.read(path)
    store.put(path, data[:-1])
    if what == "gone":
        store.delete(path)  # as the report of `verify` says
    store.time += 8 * DAY
    kept = {name for name in segments_of(store) if name.partition("_")[0][-1] in "258" and name[:9] != name[10:19]}
    done = swept(store)
    assert [path in note for note in done.notes] == ([True] if what == "damaged" else [])
    assert set(segments_of(store)) >= kept - {path.rpartition("/")[2]}
    assert read(store) == line(range(9))
    store.put(path, data)
    store.time += 8 * DAY
    swept(store)
    assert segments_of(store) == ["000000000-000000008_0_8.parquet"]
    assert read(store) == line(range(9))


@pytest.mark.parametrize("position", [Position(RUN, 1, None), Position(RUN, None, 9), Position(RUN, None, None)])
def test_who_keeps_a_run_open_for_weeks_reads_its_rows_all_the_same(
    position: Position, store: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that were put together after he had looked where they lie, and were collected since."""
    here = time.time()
    monkeypatch.setattr(time, "time", lambda: here + store.time)
    monkeypatch.setattr(opening, "PLANNED_FILES", 0)  # what a base names stays
    writer = opened(store)
    flushes(writer, range(5))
    if position.revision is not None:
        rewound(store, 4).close()
    reading = StoredRun(store, position)
    assert reading.last_step == 4
    end(writer)
    assert len(segments_of(store)) == 7, "the parts, and what was put together of them"
    store.time += 8 * DAY
    assert swept(store).objects["superseded segments"] == 5
    assert reading.history().to_arrow()["a"].to_pylist() == list(range(5))


def test_nothing_goes_before_its_time(store: Clocked) -> None:
    writer = opened(store)
    flushes(writer, range(8))
    store.time += 6.9 * DAY
    assert swept(store).objects == {}
    store.time += 0.2 * DAY
    flushes(writer, [8])  # the last of nine: a range over all of them, put just now
    before = set(segments_of(store))
    assert "000000000-000000008_0_8.parquet" in before
    swept(store)
    assert set(segments_of(store)) >= {f"00000000{n}-00000000{n + 2}_{n}_{n + 2}.parquet" for n in (0, 3, 6)}, (
        "whoever listed before knows only these"
    )
    store.time += 8 * DAY
    swept(store)
    assert segments_of(store) == ["000000000-000000008_0_8.parquet"]
    assert read(store) == line(range(9))


def test_a_fork_that_seals_within_a_wide_range_keeps_the_parts(store: Clocked) -> None:
    writer = opened(store)
    flushes(writer, range(5))
    fork = forked(store, "b", None)
    end(fork)
    flushes(writer, range(5, 9))
    end(writer)
    before = {name: read(store, run=RunRef("p", name)) for name in ("a", "b")}
    store.time += 8 * DAY
    swept(store)
    assert {name: read(store, run=RunRef("p", name)) for name in ("a", "b")} == before
    assert before["b"] == line(range(5))
    assert len(segments_of(store)) < 13


def test_a_run_has_its_last_rows_though_a_fork_keeps_only_some_of_the_segments_before_them(
    store: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The range over all flushes lies in the folder of the first, the parts that a fork needs in that of later ones."""
    monkeypatch.setattr(names, "GROUP_SIZE", 3)
    writer = opened(store)
    flushes(writer, range(5))
    end(forked(store, "b", None))
    flushes(writer, range(5, 9))
    end(writer)
    store.time += 8 * DAY
    swept(store)
    assert read(store) == line(range(9))
    writer = opened(store)
    assert writer.opened is not None and writer.opened.start == 9
    log(writer, [9])
    end(writer)
    assert read(store) == line(range(10))
    assert read(store, run=RunRef("p", "b")) == line(range(5))
    store.time += 8 * DAY
    swept(store)
    assert read(store) == line(range(10))


def test_what_a_base_names_stays_though_it_was_superseded(store: Clocked) -> None:
    writer = opened(store)
    flushes(writer, range(2))
    end(forked(store, "b", None))
    plan = documents.decode_base(*_base_of(store, RunRef("p", "b"))).plan
    assert [name for files in plan.values() for name, _ in files["metrics"]] == [
        "000000000-000000000_0_0.parquet",
        "000000001-000000001_1_1.parquet",
    ]
    flushes(writer, range(2, 3))
    end(writer)
    store.time += 8 * DAY
    swept(store)
    assert read(store, run=RunRef("p", "b")) == line(range(2))


def _base_of(storage: Storage, run: RunRef) -> tuple[bytes, RunRef, str]:
    (folder,) = storage.list(RunPaths(run).terms)
    path = names.base(f"{RunPaths(run).terms}/{folder.name}")
    return storage.read(path), run, path


def test_what_a_writer_put_after_it_was_taken_over_goes(store: Clocked) -> None:
    zombie = opened(store)
    flushes(zombie, [0])
    successor = opened(store)
    log(zombie, [1])
    with pytest.raises(Exception, match="taken over"):
        zombie.flush()
    flushes(successor, [1])
    store.time += 8 * DAY
    done = swept(store)
    assert done.objects["segments of writers that were taken over"] == 1
    assert read(store) == line([0, 1])


def test_what_is_left_of_torn_openings_goes_but_their_claims_stay(store: Clocked) -> None:
    end(opened(store))
    paths = RunPaths(RUN)
    claim = new_claim("abcd", "opened", "")
    store.create(paths.claim(1), documents.encode_claim(claim))
    left = names.merged(paths.term(1, "abcd"), 0)
    store.put(f"{left}/s/metrics/000000/000000000-000000000_0_0.parquet", b"copied")
    store.put(names.alive(paths.term(1, "abcd")), b"{}")
    store.time += 6 * DAY
    assert swept(store).objects == {}, "its opening may be under way"
    store.time += 2 * DAY
    assert swept(store).objects == {"openings that were cut short": 2}
    assert store.read(paths.claim(1))


def test_merged_ancestors_that_nothing_refers_to_go(store: Clocked) -> None:
    for step in range(7):
        writer = opened(store)
        flushes(writer, [step])
        end(writer)
    view = resolve(store, RUN)
    left = f"{view.folder}/a77/s/metrics/000000/000000000-000000000_0_0.parquet"
    store.put(left, b"of a merger that was cut short")
    assert any("/a0" in entry.folder for entry in view.entries)
    store.time += 8 * DAY
    assert swept(store).objects["merged ancestors that nothing refers to"] >= 1
    assert left not in objects(store)
    assert read(store) == line(range(7))


def test_pins_of_forks_that_never_were_go(store: Clocked) -> None:
    end(opened(store))
    end(forked(store, "b", 0))
    store.put(RunPaths(RUN).pin("dead"), documents.encode_pin(RunRef("p", "never"), RUN, "dead"))
    assert swept(store).objects == {}, "the claim of a fork comes after its pin"
    store.time += 8 * DAY
    assert swept(store).objects["pins of forks that are not there"] == 1
    assert len(store.list(RunPaths(RUN).pins)) == 1


def test_files_that_no_row_names_go(store: Clocked, tmp_path: Path) -> None:
    writer = opened(store)
    kept = writer.attach(b"shown")
    writer.append("media", {"picture": f'{{"type": "image", "sha256": "{kept}"}}'}, 0)
    end(writer)
    blobs.put(store, b"forgotten")
    assert swept(store).objects == {}
    store.time += 8 * DAY
    assert swept(store).objects["files that no row refers to"] == 1
    assert blobs.read(store, kept) == b"shown"
    with pytest.raises(FileNotFoundError):
        blobs.read(store, blobs.digest_of(b"forgotten"))


@pytest.mark.parametrize("hours", [11, 13])
def test_a_file_that_the_store_has_is_touched_only_when_it_is_old_where_that_costs_something(
    store: Clocked, hours: int
) -> None:
    store.cheap_touch = False
    blobs.put(store, b"again")
    store.time += hours * 3600
    counting = CountingStorage(store)
    for _ in range(3):
        blobs.put(counting, b"again")
    looks = {"put": 1, "info": 4, "delete": 1}  # with one look at what time it is
    assert counting.traffic.requests == (looks if hours < 12 else looks | {"touch": 1})


def test_an_old_file_that_is_about_to_be_referred_to_stays(store: Clocked) -> None:
    digest = blobs.put(store, b"again")
    store.time += 8 * DAY
    store_clock._answers.clear()  # or it would ask this machine how much time went by
    assert blobs.put(store, b"again") == digest
    assert swept(store).objects == {}
    assert blobs.read(store, digest) == b"again"


def test_a_file_that_is_put_anew_while_it_is_collected_stays(store: Clocked) -> None:
    digest = blobs.put(store, b"again")
    store.time += 8 * DAY

    class Meanwhile(Clocked):
        def list(self, folder: str) -> Listing:
            found = super().list(folder)
            if folder == f"blobs/{digest[:2]}":
                self.touch(names.blob(digest))
            return found

    meanwhile = Meanwhile(store.inner)
    meanwhile.time, meanwhile.written = store.time, store.written
    assert collect(meanwhile, dry_run=False).objects == {}
    assert blobs.read(store, digest) == b"again"


def test_files_that_rows_in_a_journal_name_stay(
    tmp_path: Path, store: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.local_path = tmp_path  # where its journals lie
    writer = opened(store)
    digest = blobs.put(store, b"stored before its row")
    writer.append("media", {"picture": f'{{"type": "image", "sha256": "{digest}"}}'}, 0)
    store.time += 8 * DAY
    assert swept(store).objects == {}
    end(writer)
    assert blobs.read(store, digest) == b"stored before its row"


def test_a_store_that_does_not_tell_the_time_is_left_alone(memory: MemoryStorage) -> None:
    class Timeless(WrapperStorage):
        def info(self, path: str) -> ObjectInfo:
            found = super().info(path)
            return ObjectInfo(found.name, found.size)

    with pytest.raises(StorageError, match="does not say when"):
        collect(Timeless(memory), dry_run=False)
    assert objects(memory) == {}


@pytest.mark.parametrize("damaged", ["base.json", "m/00000000.json"])
def test_nothing_goes_where_it_cannot_be_known_what_is_needed(store: Clocked, damaged: str) -> None:
    writer = opened(store)
    flushes(writer, range(9))
    end(writer)
    store.time += 8 * DAY
    (path,) = (path for path in objects(store) if path.endswith(damaged))
    store.put(path, store.read(path).replace(b"a", b"b"))
    before = objects(store)
    with pytest.raises(CorruptError, match=damaged):
        collect(store, dry_run=False)
    assert objects(store) == before


def test_nothing_goes_where_a_base_is_that_of_another_term(store: Clocked) -> None:
    """As a restore from a backup may leave it: it would say that what the run is made of now is not needed."""
    writer = opened(store)
    flushes(writer, range(9))
    end(writer)
    end(rewound(store, 4))
    store.time += 8 * DAY
    first, second = (path for path in objects(store) if path.endswith("base.json"))
    store.put(second, store.read(first))
    store.time += 8 * DAY
    before = objects(store)
    with pytest.raises(CorruptError, match="objects were mixed up"):
        collect(store, dry_run=False)
    assert objects(store) == before


def test_files_stay_where_a_segment_that_may_name_them_is_damaged(store: Clocked) -> None:
    writer = opened(store)
    writer.append("media", {"picture": '{"type": "text"}'}, 0)
    end(writer)
    blobs.put(store, b"perhaps")
    (path,) = (path for path in objects(store) if "/s/media/" in path)
    store.put(path, b"x" + store.read(path)[1:-1] + b"x")
    store.time += 8 * DAY
    done = collect(store, dry_run=False)
    assert "files that no row refers to" not in done.objects
    assert "not known which are needed" in str(done)
    assert blobs.read(store, blobs.digest_of(b"perhaps")) == b"perhaps"
