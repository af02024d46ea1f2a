"""What every storage does, whatever is behind it: each backend runs this class."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rewind_logger.errors import ConfigError
from rewind_logger.storage import ObjectInfo, Storage
from rewind_logger.storage.base import CHUNK_BYTES
from rewind_logger.storage.probe import is_conditional

ODD_PATHS = ["größe/日本 語.json", "a b/c  d.json", "x/[1] +&=;,'(y)!~$.json", "per%20cent/100%.json", "UPPER/lower"]


def another_client(storage: Storage) -> Storage:
    """The same store, opened anew."""
    reopened: Storage = pickle.loads(pickle.dumps(storage))
    return reopened


class ObjectConformance:
    """What also those do that cannot create an object only if there is none.

    Inherit it and define the fixture `storage`: an empty store.
    """

    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError

    def test_create_after_delete(self, storage: Storage) -> None:
        storage.create("a", b"first")
        storage.delete("a")
        assert storage.create("a", b"second") is True

    def test_put_replaces(self, storage: Storage) -> None:
        storage.put("a/b", b"first")
        storage.put("a/b", b"2")
        assert storage.read("a/b") == b"2"
        assert storage.size("a/b") == 1

    def test_large_objects_come_back_whole(self, storage: Storage) -> None:
        data = os.urandom(3_000_000)
        storage.put("put", data)
        assert storage.create("created", data)
        assert storage.read("put") == data
        assert storage.read("created") == data

    @pytest.mark.parametrize("size", [0, 1, 3 * CHUNK_BYTES + 12_345, 2 * CHUNK_BYTES])
    def test_files_are_stored_and_read_piece_by_piece(self, storage: Storage, tmp_path: Path, size: int) -> None:
        source = tmp_path / "source file"
        source.write_bytes(data := os.urandom(size))
        storage.put_file("f/größe 1.bin", source, sha256=hashlib.sha256(data).hexdigest())
        assert storage.size("f/größe 1.bin") == size
        pieces = list(storage.read_chunks("f/größe 1.bin"))
        assert b"".join(pieces) == data
        assert max(map(len, pieces), default=0) <= CHUNK_BYTES
        assert storage.list("f") == [ObjectInfo("größe 1.bin", size)]
        assert source.read_bytes() == data

    def test_a_stored_file_replaces_what_was_there(self, storage: Storage, tmp_path: Path) -> None:
        storage.put("a", b"much longer than before")
        (tmp_path / "source").write_bytes(b"new")
        storage.put_file("a", tmp_path / "source")
        assert storage.read("a") == b"new"

    def test_pieces_of_a_size_of_ones_own(self, storage: Storage) -> None:
        storage.put("digits", b"0123456789")
        assert list(storage.read_chunks("digits", 4)) == [b"0123", b"4567", b"89"]
        assert list(storage.read_chunks("digits", 5)) == [b"01234", b"56789"]
        with pytest.raises(FileNotFoundError, match="missing"):
            next(storage.read_chunks("missing", 4))

    def test_a_file_that_cannot_be_read_stores_nothing(self, storage: Storage, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no such source"):
            storage.put_file("a", tmp_path / "no such source")
        with pytest.raises(OSError):
            storage.put_file("a", tmp_path)
        with pytest.raises(ConfigError, match="no path within a store"):
            storage.put_file("../a", Path(__file__))
        assert storage.list("") == []

    def test_read_of_an_empty_object(self, storage: Storage) -> None:
        storage.put("empty", b"")
        assert storage.read("empty") == b""
        assert storage.size("empty") == 0

    @pytest.mark.parametrize(
        ("start", "stop", "expected"),
        [
            (0, 10, b"0123456789"),
            (0, 1, b"0"),
            (3, 6, b"345"),
            (9, 10, b"9"),
            (8, 100, b"89"),
            (10, 20, b""),
            (50, 60, b""),
            (4, 4, b""),
            (5, 4, b""),
            (-3, 0, b"789"),
            (-10, 0, b"0123456789"),
            (-100, 0, b"0123456789"),
        ],
    )
    def test_read_range(self, storage: Storage, start: int, stop: int, expected: bytes) -> None:
        storage.put("digits", b"0123456789")
        assert storage.read_range("digits", start, stop) == expected

    def test_ranges_of_an_empty_object_are_empty(self, storage: Storage) -> None:
        storage.put("empty", b"")
        assert [storage.read_range("empty", *limits) for limits in [(0, 8), (5, 8), (-8, 0)]] == [b"", b"", b""]

    def test_what_is_missing_is_not_found(self, storage: Storage) -> None:
        storage.put("folder/object", b"x")
        for path in ["missing", "no/such/folder/missing", "folder", "folder/object/below"]:
            for request in (
                lambda: storage.read(path),  # noqa: B023  (called at once)
                lambda: storage.read_range(path, 0, 8),  # noqa: B023
                lambda: storage.read_range(path, -8, 0),  # noqa: B023
                lambda: storage.size(path),  # noqa: B023
            ):
                with pytest.raises(FileNotFoundError, match=path):
                    request()

    def test_delete(self, storage: Storage) -> None:
        storage.put("a/b", b"x")
        storage.put("a/c", b"y")
        storage.delete("a/b")
        with pytest.raises(FileNotFoundError):
            storage.read("a/b")
        assert storage.list("a") == [ObjectInfo("c", 1)]

    def test_deleting_what_is_missing_is_no_error(self, storage: Storage) -> None:
        storage.put("folder/object", b"x")
        for path in ["missing", "no/such/folder/missing", "folder", "folder/object/below"]:
            storage.delete(path)
        assert storage.read("folder/object") == b"x"

    def test_list_gives_what_lies_directly_in_a_folder_sorted_by_name(self, storage: Storage) -> None:
        for path in ["f/b", "f/a10", "f/a9", "f/sub/x", "f/sub/y", "fx/other", "f.json", "f/Z"]:
            storage.put(path, b"12345")
        assert storage.list("f") == [
            ObjectInfo("Z", 5),
            ObjectInfo("a10", 5),
            ObjectInfo("a9", 5),
            ObjectInfo("b", 5),
            ObjectInfo("sub", None),
        ]
        assert storage.list("f/sub") == [ObjectInfo("x", 5), ObjectInfo("y", 5)]

    def test_list_of_the_store_itself(self, storage: Storage) -> None:
        assert storage.list("") == []
        storage.put("top", b"1")
        storage.put("folder/object", b"2")
        assert storage.list("") == [ObjectInfo("folder", None), ObjectInfo("top", 1)]

    def test_list_of_no_folder_is_empty(self, storage: Storage) -> None:
        storage.put("a/object", b"1")
        assert storage.list("missing") == []
        assert storage.list("a/missing") == []
        assert storage.list("a/object") == []
        assert storage.list("a/object/below") == []

    def test_a_listing_says_when_an_object_was_written(self, storage: Storage) -> None:
        storage.put("f/first", b"1")
        storage.put("f/sub/x", b"1")
        first, folder = storage.list("f")
        assert folder.modified is None
        assert first.modified is not None
        assert abs(first.modified - time.time()) < 60, "seconds since 1970 in UTC, and these servers have our clock"
        assert storage.info("f/first").modified == pytest.approx(first.modified, abs=1)
        storage.put("f/second", b"2")
        (second,) = (line for line in storage.list("f") if line.name == "second")
        assert second.modified is not None and second.modified >= first.modified

    def test_what_is_known_of_one_object(self, storage: Storage) -> None:
        storage.put("a/b", b"12345")
        assert storage.info("a/b") == ObjectInfo("b", 5)
        for path in ["a", "a/c", "b", "a/b/c"]:
            with pytest.raises(FileNotFoundError, match=path):
                storage.info(path)

    def test_an_object_that_is_touched_is_as_if_it_were_written_now(self, storage: Storage) -> None:
        storage.put("a/größe", b"content")
        before = storage.info("a/größe").modified
        assert before is not None
        deadline = time.monotonic() + 30
        while (touched := storage.touch("a/größe")) and storage.info("a/größe").modified == before:
            assert time.monotonic() < deadline, "servers tell whole seconds"
        after = storage.info("a/größe").modified
        assert after is not None and (after > before if touched else after == before)
        assert storage.read("a/größe") == b"content"
        if touched:
            with pytest.raises(FileNotFoundError):
                storage.touch("a/missing")

    def test_many_objects_are_removed(self, storage: Storage) -> None:
        storage.put_many([(f"f/{n}", b"x") for n in range(20)])
        assert storage.delete_each([f"f/{n}" for n in range(1, 25)]) == [None] * 24
        assert storage.list("f") == [ObjectInfo("0", 1)]
        with pytest.raises(ConfigError, match="no path within a store"):
            storage.delete_each(["../outside"])

    def test_whole_objects_are_not_unfinished(self, storage: Storage, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(bytes(2 * CHUNK_BYTES))
        storage.put_file("large", tmp_path / "source")
        storage.create("created", b"x")
        assert list(storage.unfinished()) == []

    def test_list_sees_what_another_client_just_made(self, storage: Storage) -> None:
        other = another_client(storage)
        storage.put("f/0", b"")
        for n in range(1, 4):
            assert len(storage.list("f")) == n
            other.put(f"f/{n}", b"x" * n)
            assert storage.list("f")[-1] == ObjectInfo(str(n), n)
        other.delete("f/0")
        assert [line.name for line in storage.list("f")] == ["1", "2", "3"]

    def test_read_of_a_replaced_object_is_whole(self, storage: Storage) -> None:
        other = another_client(storage)
        storage.put("f/a", b"short")
        assert (storage.list("f"), storage.read("f/a")) == ([ObjectInfo("a", 5)], b"short")
        other.put("f/a", b"much longer than before")
        assert storage.read("f/a") == b"much longer than before"
        assert storage.read_range("f/a", -6, 0) == b"before"
        assert storage.size("f/a") == 23
        other.put("f/a", b"-")
        assert storage.read("f/a") == b"-"

    def test_what_was_missing_is_found_once_another_client_made_it(self, storage: Storage) -> None:
        other = another_client(storage)
        assert storage.list("f") == []
        with pytest.raises(FileNotFoundError):
            storage.read("f/a")
        other.put("f/a", b"x")
        assert storage.read("f/a") == b"x"
        assert storage.list("f") == [ObjectInfo("a", 1)]

    @pytest.mark.parametrize("path", ODD_PATHS)
    def test_odd_names(self, storage: Storage, path: str) -> None:
        folder, _, name = path.partition("/")
        storage.put(path, b"x")
        assert storage.read(path) == b"x"
        assert storage.list("") == [ObjectInfo(folder, None)]
        assert storage.list(folder) == [ObjectInfo(name, 1)]
        assert storage.size(path) == 1
        storage.delete(path)
        assert storage.list(folder) == []

    @pytest.mark.parametrize("path", ["..", "../a", "a/../b", "/a", "a/", "a//b", "./a", "a/.hidden", "a\0b"])
    def test_paths_that_leave_the_store_or_hide_in_it_are_refused(self, storage: Storage, path: str) -> None:
        for request in (
            lambda: storage.create(path, b""),
            lambda: storage.put(path, b""),
            lambda: storage.read(path),
            lambda: storage.read_range(path, 0, 1),
            lambda: storage.size(path),
            lambda: storage.delete(path),
            lambda: storage.list(path),
        ):
            with pytest.raises(ConfigError, match="no path within a store"):
                request()
        assert storage.list("") == []

    def test_many_objects_are_read_in_order(self, storage: Storage) -> None:
        paths = [f"f{n % 3}/{n}" for n in range(40)]
        for n, path in enumerate(paths):
            storage.put(path, b"x" * n)
        assert storage.read_many(reversed(paths)) == [b"x" * n for n in reversed(range(40))]
        assert storage.read_many([]) == []
        listings = storage.map_lists(["f0", "missing", "f2"])
        assert [sum(line.size or 0 for line in listing) for listing in listings] == [
            sum(range(0, 40, 3)),
            0,
            sum(range(2, 40, 3)),
        ]

    def test_many_objects_are_written(self, storage: Storage) -> None:
        objects = [(f"f{n % 3}/{n}", b"x" * n) for n in range(40)]
        assert storage.put_each(objects) == [None] * 40
        assert storage.read_many(path for path, _ in objects) == [data for _, data in objects]
        storage.put_many([])
        for broken in (storage.put_each, storage.put_many):
            with pytest.raises(ConfigError, match="no path within a store"):
                broken([("../outside", b"x")])

    def test_one_missing_object_of_many(self, storage: Storage) -> None:
        storage.put("a", b"1")
        storage.put("b", b"2")
        first, missing, last = storage.read_each(["a", "missing", "b"])
        assert (first, last) == (b"1", b"2")
        assert isinstance(missing, FileNotFoundError)
        with pytest.raises(FileNotFoundError, match="missing"):
            storage.read_many(["a", "missing", "b"])

    def test_several_threads(self, storage: Storage) -> None:
        start = threading.Barrier(4)

        def work(thread: int) -> list[bytes]:
            start.wait()
            for n in range(5):
                storage.put(f"{thread}/{n}", bytes([thread, n]))
            return storage.read_many(f"{thread}/{n}" for n in range(5))

        with ThreadPoolExecutor(4) as pool:
            for thread, data in enumerate(pool.map(work, range(4))):
                assert data == [bytes([thread, n]) for n in range(5)]

    @pytest.mark.parametrize("duplicate", [another_client, copy.copy, copy.deepcopy])
    def test_copies_and_pickles_speak_with_the_same_store(self, storage: Storage, duplicate: object) -> None:
        assert callable(duplicate)
        storage.put("a", b"before")
        other: Storage = duplicate(storage)
        assert other.read("a") == b"before"
        other.put("a", b"after")
        assert storage.read("a") == b"after"
        assert (other.url, other.local_path, repr(other)) == (storage.url, storage.local_path, repr(storage))

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_child_reads_and_its_parent_goes_on(self, storage: Storage) -> None:
        storage.put("a", b"from the parent")
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            answer = b"the child failed"
            try:
                answer = storage.read("a") + b" to the child " + str(len(storage.list(""))).encode()
            finally:
                os.write(writing, answer)
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            assert pipe.read() == b"from the parent to the child 1"
        os.waitpid(child, 0)
        storage.put("b", b"after")
        assert storage.read_many(["a", "b"]) == [b"from the parent", b"after"]

    def test_the_url_is_shown(self, storage: Storage) -> None:
        assert storage.url in repr(storage)


class StorageConformance(ObjectConformance):
    """What every storage does; inherit it likewise."""

    def test_create_makes_an_object_once(self, storage: Storage) -> None:
        assert storage.create("a/b/c", b"first") is True
        assert storage.create("a/b/c", b"second") is False
        assert storage.read("a/b/c") == b"first"

    def test_create_makes_an_empty_object_once(self, storage: Storage) -> None:
        assert storage.create("a", b"") is True
        assert storage.create("a", b"") is False
        assert storage.create("a", b"not empty") is False
        assert storage.read("a") == b""

    def test_create_does_not_replace_what_was_put(self, storage: Storage) -> None:
        storage.put("a", b"put")
        assert storage.create("a", b"created") is False
        assert storage.read("a") == b"put"

    def test_the_probe_finds_that_create_never_replaces(self, storage: Storage) -> None:
        assert storage.create("claim", b"mine")
        assert is_conditional(storage, "claim", b"mine") is True
        assert storage.read("claim") == b"mine"

    @pytest.mark.parametrize("path", ODD_PATHS)
    def test_create_of_odd_names(self, storage: Storage, path: str) -> None:
        assert storage.create(path, b"x")
        assert not storage.create(path, b"y")
        assert storage.read(path) == b"x"
        assert [line.size for line in storage.list(path.partition("/")[0])] == [1]
