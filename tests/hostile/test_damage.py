"""Whatever object of a store is damaged, lost or mixed up with another, it is named, and the rest is read.

Nothing that is not in the damaged object is lost, also not by a run that goes on beside the damage.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Callable, Mapping

import pytest

from rewind_logger import init, open_store
from rewind_logger.errors import CorruptError, RewindError
from rewind_logger.format import documents, names
from rewind_logger.history import cumulative, damage, snapshots
from rewind_logger.history.verify import verify
from rewind_logger.history.view import resolve
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.figures import count
from tests.history.lines import RUN, Line, end, forked, log, opened, read, rewound
from tests.hostile.specimen import ARCHIVED, EXPECTED, FORK, HEAD, PLACES, fill, objects, read_all, rows_in

Change = Callable[[bytes, random.Random], bytes | None]
"""What becomes of an object; None: it is gone."""


def flip(data: bytes, chance: random.Random) -> bytes:
    """Turn a bit."""
    at = chance.randrange(8 * len(data))
    count("bytes flipped", 1)
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]


def cut_off(data: bytes, chance: random.Random) -> bytes:
    """Lose the end."""
    return data[: chance.randrange(1, len(data))]


def zeros(data: bytes, chance: random.Random) -> bytes:
    """Fill a page with zeros, or the whole of a small object."""
    at = chance.randrange(0, len(data), 512)
    return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]


CHANGES: dict[str, Change] = {
    "a wrong bit": flip,
    "cut off": cut_off,
    "a page of zeros": zeros,
    "empty": lambda data, chance: b"",
    "gone": lambda data, chance: None,
}


class Specimen:
    """The store, whose objects can be changed and put back."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.storage = MemoryStorage(f"memory://damage-{secrets.token_hex(6)}")
        self.objects = objects
        self.restore()
        self.bases = {place: f"{resolve(self.storage, *place).folder}/base.json" for place in PLACES}

    def put(self, path: str, data: bytes | None) -> None:
        """Change an object."""
        if data is None:
            self.storage.delete(path)
        else:
            self.storage.put(path, data)

    def restore(self) -> None:
        """Put everything back as it was, and remove what came since."""
        for path in objects(self.storage):
            if path not in self.objects:
                self.storage.delete(path)
        for path, data in self.objects.items():
            self.storage.put(path, data)

    def leaves_no_trace(self, path: str, what: str) -> bool:
        """Whether nothing but `verify` notices that an object is gone: the last claim of a run, or the end of its rows.

        What comes before leaves a gap in numbers.
        """
        heads = [self.bases[place].removesuffix("base.json") for place in PLACES if place[1] is None]
        last_claims = [f"{head.partition('/t/')[0]}/m/{head.partition('/t/')[2][:8]}.json" for head in heads]
        return what == "gone" and (path in last_claims or any(path.startswith(f"{head}s/") for head in heads))

    def only_in(self, path: str) -> Line:
        """Return the rows that an object alone holds: those of a merged segment are still in its parts."""
        folder = path.rpartition("/")[0]
        others = (other for other in self.objects if other != path and other.rpartition("/")[0] == folder)
        held = {row for other in others for row in rows_in(other, self.objects[other])}
        return [row for row in rows_in(path, self.objects[path]) if row not in held]

    def check(self, path: str, what: str, caplog: pytest.LogCaptureFixture) -> None:
        """See that all places read as they should, with this object changed, which the log names."""
        lost = self.only_in(path)
        for place, found, expected in zip(PLACES, read_all(self.storage), EXPECTED, strict=True):
            needed = self.bases[place] == path
            if needed or (place[0] == FORK and self.bases[FORK, None] == path):
                assert found.rows is None and path in found.error, f"{path} {what}: {place} has a base all the same"
                continue
            wanted = [row for row in expected if row not in lost]
            count("rows checked", len(wanted))
            missing = [row for row in wanted if row not in (found.rows or [])]
            count("rows lost", len(missing))
            assert not missing, f"{path} {what}: {place} lost {missing} ({found.error})"
            assert found.rows == wanted, f"{path} {what}: {place}"
            if len(wanted) < len(expected):
                assert _names(caplog.text, path), f"{path} {what}: not named"


def _names(text: str, path: str) -> bool:
    """Whether a log names an object; or the flushes that it held, where it is missing."""
    folder, _, stream, _, _ = path.rsplit("/", 4)
    return path in text or (f"of {stream} in" in text and f"{folder} are missing" in text)


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    storage = MemoryStorage(f"memory://damage-{secrets.token_hex(6)}")
    fill(storage)
    return {path: storage.read(path) for path in objects(storage)}


@pytest.fixture
def specimen(contents: dict[str, bytes]) -> Specimen:
    damage.report.cache_clear()  # what was named is named anew
    return Specimen(contents)


def test_the_specimen_is_whole(specimen: Specimen, caplog: pytest.LogCaptureFixture) -> None:
    assert [found.rows for found in read_all(specimen.storage)] == EXPECTED
    assert caplog.text == ""
    kinds = {path.rpartition("/")[2].partition(".")[0] for path in specimen.objects}
    assert {"base", "end", "alive", "evaluation"} <= kinds
    assert any("/000000000-000000001_" in path for path in specimen.objects), "it has no merged segment"
    for part in ("/m/", "/s/metrics/", "/s/events/", "/s/console/", "/v/", "/pins/", "/summary/", "blobs/"):
        assert any(part in path for path in specimen.objects), f"it has no {part}"


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_the_rest_is_read_whatever_is_damaged(
    what: str, times: int, specimen: Specimen, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(times)
    for path, data in specimen.objects.items():
        for _ in range(times):
            if specimen.leaves_no_trace(path, what):
                continue
            caplog.clear()
            damage.report.cache_clear()
            specimen.put(path, CHANGES[what](data, chance))
            specimen.check(path, what, caplog)
            specimen.put(path, data)


def test_objects_that_were_mixed_up_are_not_taken_for_each_other(
    specimen: Specimen, caplog: pytest.LogCaptureFixture
) -> None:
    """As a restore from a backup may do: under each name lies the whole object of another."""
    marks = ("end.json", "alive.json", "evaluation.json", "/pins/")
    for kind in ("/m/", "/s/", "/summary/", "base.json", *marks):
        paths = [path for path in specimen.objects if kind in path]
        assert len(paths) > 1
        for path in paths:
            for other in paths:
                if path == other:
                    continue
                caplog.clear()
                damage.report.cache_clear()
                specimen.put(path, specimen.objects[other])
                specimen.check(path, f"is {other}", caplog)
                if kind in marks:
                    assert path in [problem.path for problem in verify(specimen.storage).problems]
            specimen.put(path, specimen.objects[path])


def test_a_mark_of_another_is_passed_by_as_a_damaged_one_is(
    specimen: Specimen, caplog: pytest.LogCaptureFixture
) -> None:
    """A restore from a backup that mixed objects up makes no failed run a finished one."""
    storage, store = specimen.storage, open_store(specimen.storage.url)
    writer = opened(storage)
    log(writer, [11])
    writer.finish("failed")
    writer.close()
    assert store.run("p/a").state == "failed"
    folder, other = resolve(storage, RUN).folder, resolve(storage, FORK).folder
    heard = storage.read(names.alive(other))
    storage.put(names.alive(folder), heard)
    storage.put(names.end(folder), storage.read(names.end(other)))
    assert store.run("p/a").state != "finished"
    assert store.run("p/a").last_heartbeat != documents.decode_alive(heard, names.alive(other)).at_ms
    (first, second) = [path for path in specimen.objects if path.startswith("p/a/v/") and "evaluation.json" in path]
    storage.put(first, storage.read(second))
    assert len(store.run("p/a").evaluations) == 1, "it is not told which checkpoint its rows are of"
    (pin, *_) = [path for path in specimen.objects if path.startswith("p/a/pins/")]
    forks = {fork.run for fork in store.run("p/a").forks}
    storage.put(pin, next(data for path, data in specimen.objects.items() if "/pins/" in path and path != pin))
    assert len({fork.run for fork in store.run("p/a").forks}) == len(forks) - 1
    for path in (names.end(folder), names.alive(folder), first, pin):
        assert f"{path} is that of" in caplog.text
        assert path in [problem.path for problem in verify(storage).problems]


@pytest.mark.parametrize("what", ["a wrong bit", "gone"])
def test_a_run_that_goes_on_beside_damage_makes_it_no_worse(what: str, specimen: Specimen) -> None:
    """Once the object was restored, everything is there: what was before, and what came since."""
    chance = random.Random(0)
    refused = 0
    for path, data in specimen.objects.items():
        if specimen.leaves_no_trace(path, what):
            continue
        specimen.put(path, CHANGES[what](data, chance))
        try:
            writer = opened(specimen.storage)
        except CorruptError as error:
            refused += 1
            assert path in str(error)
            added = []
        else:
            log(writer, range(11, 14), turn=3)
            end(writer)
            added = [(step, 3000 + step) for step in range(11, 14)]
        specimen.put(path, data)
        expected = EXPECTED[0] + added
        found = read(specimen.storage)
        count("rows checked", len(expected))
        count("rows lost", len(set(expected) - set(found)))
        assert found == expected, f"{path} {what}"
        assert read(specimen.storage, 1) == EXPECTED[1]
        assert read(specimen.storage, run=FORK) == EXPECTED[2]
        specimen.restore()
    assert refused == 1, "only where the head's own base is damaged nobody can know on what to go on"


def test_what_a_damaged_base_leaves_can_be_forked(specimen: Specimen) -> None:
    """Its archived revisions are whole, and training goes on from one."""
    specimen.put(specimen.bases[HEAD], b"")
    store = open_store(specimen.storage.url)
    with pytest.raises(CorruptError, match=r"its archived revisions can be read, as 'p/a@1'"):
        store.run("p/a")
    assert len(store.run("p/a@1").history()) == len(EXPECTED[1])
    with init(dir=specimen.storage.url, project="p", id="c", fork_from="a@1?_step=7") as run:
        run.log({"a": 8})
    assert read(specimen.storage, run=RunRef("p", "c")) == [*EXPECTED[1][:8], (8, 8)]


@pytest.mark.parametrize("what", ["a wrong bit", "gone"])
@pytest.mark.parametrize("next_step", [None, 6])
def test_an_archived_revision_whose_base_is_damaged_is_refused_and_nobody_is_stopped(
    next_step: int | None, what: str, specimen: Specimen
) -> None:
    writer = opened(specimen.storage)
    log(writer, [11])
    writer.flush()
    path = specimen.bases[ARCHIVED]
    specimen.put(path, CHANGES[what](specimen.objects[path], random.Random(0)))
    before = list(objects(specimen.storage))
    with pytest.raises(CorruptError, match=r"base\.json.*backup"):
        rewound(specimen.storage, next_step, revision=1)
    with pytest.raises(CorruptError, match=r"base\.json.*backup"):
        forked(specimen.storage, "c", next_step, revision=1)
    assert list(objects(specimen.storage)) == before, "no claim, no pin"
    log(writer, [12])
    assert writer.flush()
    writer.close()
    opened(specimen.storage).close()
    specimen.put(path, specimen.objects[path])
    rewound(specimen.storage, next_step, revision=1).close()
    assert read(specimen.storage) == EXPECTED[1][:next_step]


def test_damage_is_named_once(specimen: Specimen, caplog: pytest.LogCaptureFixture) -> None:
    [path] = [path for path in specimen.objects if path.endswith("_7_9.parquet") and "/metrics/" in path]
    specimen.put(path, specimen.objects[path][:-1])
    for _ in range(3):
        read(specimen.storage, 1)
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert f"The segment {path} in {specimen.storage.url} is damaged" in record.getMessage()
    assert "flushes 0 to 0 and steps 7 to 9, are left out" in record.getMessage()


@pytest.mark.parametrize("what", ["a wrong bit", "gone"])
def test_no_snapshot_is_written_over_damage(what: str, specimen: Specimen, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hide for good what may come back from a backup."""
    monkeypatch.setattr(cumulative, "DUE_SEGMENTS", 1)
    monkeypatch.setattr(cumulative, "DUE_SHARE", 0.0)
    for path in [path for path in specimen.objects if "/summary/" in path]:
        specimen.storage.delete(path)
    [path] = [path for path in specimen.objects if "/metrics/" in path and path.endswith("_5_8.parquet")]
    specimen.put(path, CHANGES[what](specimen.objects[path], random.Random(0)))
    writer = opened(specimen.storage)
    log(writer, range(11, 14))
    writer.flush()
    log(writer, range(14, 17))
    end(writer)
    assert [path for path in objects(specimen.storage) if "/summary/" in path] == []
    specimen.put(path, specimen.objects[path])
    count_of = snapshots.aggregates(specimen.storage, resolve(specimen.storage, RUN)).get(["a"])["a"].count
    assert count_of == len(EXPECTED[0]) + 6


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.exhaustive)])
def test_every_public_way_to_read_gives_the_rest_or_names_the_damage(times: int, specimen: Specimen) -> None:
    chance = random.Random(times)
    for path, data in specimen.objects.items():
        for change in chance.sample(list(CHANGES.values()), times):
            specimen.put(path, change(data, chance))
            store = open_store(specimen.storage.url)
            for name in ("p/a", "p/a@1", "p/a?_step=5", "p/b"):
                try:
                    run = store.run(name)
                except RewindError as error:
                    assert "base.json" in path or "/m/" in path, f"{path}: {error}"
                    continue
                for look in LOOKS:
                    look(run)
            specimen.put(path, data)


LOOKS: list[Callable[..., object]] = [
    lambda run: run.history().to_arrow(),
    lambda run: run.history(stream="console").to_arrow(),
    lambda run: run.history(stream="system").to_arrow(),
    lambda run: dict(run.summary),
    lambda run: run.config,
    lambda run: run.metrics,
    lambda run: run.artifacts,
    lambda run: run.media(),
    lambda run: run.checkpoints,
    lambda run: run.evaluations,
    lambda run: run.environment,
    lambda run: run.forks,
    lambda run: run.lineage,
    lambda run: run.revision,
    lambda run: run.state,
    lambda run: run.last_heartbeat,
]
