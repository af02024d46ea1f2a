"""From a URL to a storage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from rewind_logger.errors import ConfigError
from rewind_logger.storage import open_storage
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.remote import FsspecStorage
from rewind_logger.storage.retry import RetryingStorage
from rewind_logger.storage.s3 import S3Storage
from tests.conftest import Bucket
from tests.storage.backends import PlainFileSystem, registered


def run(code: str) -> str:
    """Run code in a fresh interpreter; return what it printed."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    folders: dict[str | Path, Path] = {
        str(tmp_path / "a b"): tmp_path / "a b",
        tmp_path / "a": tmp_path / "a",
        "a": tmp_path / "a",
        "./a/../b/": tmp_path / "b",
        "~/runs": tmp_path / "home" / "runs",
        f"file://{tmp_path}/a": tmp_path / "a",
        f"local://{tmp_path}/a": tmp_path / "a",
        "C:\\runs": tmp_path / "C:\\runs",
        "odd:name": tmp_path / "odd:name",
    }
    for url, folder in folders.items():
        storage = open_storage(url)
        assert isinstance(storage, LocalStorage)
        assert storage.local_path == folder
        assert storage.url == str(folder)
    assert list(tmp_path.iterdir()) == []


def test_memory_is_shared_by_all_that_name_it() -> None:
    first, second = open_storage("memory://bucket/shared"), open_storage("memory://bucket/shared/")
    assert isinstance(first, MemoryStorage)
    first.put("f/a", b"x")
    assert second.read("f/a") == b"x"
    assert open_storage("memory://bucket").list("shared/f") == first.list("f")
    with fsspec.open("memory://bucket/shared/f/a") as file:
        assert file.read() == b"x"
    with fsspec.open("memory://bucket/shared/f/b", "wb") as file:
        file.write(b"from elsewhere")
    assert second.read("f/b") == b"from elsewhere"


def test_s3(bucket: Bucket) -> None:
    storage = open_storage(f"{bucket.url}/exp/", {**bucket.storage_options, "use_listings_cache": True})
    assert isinstance(storage, RetryingStorage)
    assert isinstance(storage.inner, S3Storage)
    assert (storage.url, storage.local_path, storage.conditional) == (f"{bucket.url}/exp", None, None)
    storage.put("f/a", b"x")
    filesystem = storage.inner.filesystem
    assert filesystem.cat_file(f"{bucket.url}/exp/f/a") == b"x"
    assert not filesystem.dircache.use_listings_cache
    assert filesystem is not open_storage(bucket.url, bucket.storage_options)


def test_options_of_the_user_are_kept(bucket: Bucket) -> None:
    mine = {"retries": {"max_attempts": 2}, "connect_timeout": 7}
    storage = S3Storage(bucket.url, {**bucket.storage_options, "config_kwargs": mine})
    config = storage.filesystem.config_kwargs
    assert config["retries"] == {"max_attempts": 2}
    assert config["connect_timeout"] == 7
    assert mine == {"retries": {"max_attempts": 2}, "connect_timeout": 7}


def test_any_file_system_that_fsspec_knows() -> None:
    with registered(PlainFileSystem):
        storage = open_storage("plain://bucket/x")
        assert isinstance(storage, RetryingStorage)
        assert isinstance(storage.inner, FsspecStorage)
        storage.put("a", b"x")
        assert list(PlainFileSystem.store) == ["/bucket/x/a"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", r"'' names no store: give a folder or a URL"),
        ("s3:/bucket/x", r"one slash after the colon.*pathlib.*give it as a str, 's3://…'"),
        (Path("s3://bucket/x"), r"one slash after the colon"),
        ("nosuch://bucket/x", r"nosuch://bucket/x cannot be opened: 'nosuch' is no protocol that fsspec knows"),
        ("s3://", r"names no place: give a bucket too, such as 's3://bucket/prefix'"),
        ("simplecache::s3://bucket/x", r"chains file systems with '::'.*give its own URL"),
    ],
)
def test_what_is_no_store_is_refused(url: str | Path, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_storage(url)


@pytest.mark.parametrize(
    ("protocol", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("az", "adlfs", "azure")]
)
def test_a_missing_backend_is_named_with_what_brings_it(protocol: str, package: str, extra: str) -> None:
    shown = run(
        f"import sys; sys.modules[{package!r}] = None\n"
        "from rewind_logger.errors import ConfigError\n"
        "from rewind_logger.storage import open_storage\n"
        f"try: open_storage('{protocol}://me:secret@bucket/x')\n"
        "except ConfigError as error: print(error)"
    )
    assert shown == (
        f"{protocol}://bucket/x needs a package that is not installed: pip install 'rewind-logger[{extra}]'\n"
    )


def test_a_local_store_does_not_load_fsspec(tmp_path: Path) -> None:
    shown = run(
        "import sys\n"
        "from rewind_logger.storage import open_storage\n"
        f"storage = open_storage({str(tmp_path)!r})\n"
        "storage.create('f/a', b'x'), storage.put('f/b', b'y'), storage.read_many(['f/a', 'f/b']), storage.list('f')\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'fsspec', 's3fs', 'botocore', 'asyncio'}))"
    )
    assert shown == "[]\n"


def test_opening_asks_nothing_of_a_store() -> None:
    """So a run can start while its store is away."""
    storage = open_storage("s3://bucket/x", {"client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}})
    assert storage.url == "s3://bucket/x"


def test_a_store_answers_while_the_interpreter_exits(bucket: Bucket) -> None:
    """What is flushed at exit is flushed after the thread pools were closed."""
    endpoint = bucket.storage_options["client_kwargs"]["endpoint_url"].replace("127.0.0.1", "localhost")
    options = {**bucket.storage_options, "client_kwargs": {"endpoint_url": endpoint, "region_name": "us-east-1"}}
    shown = run(
        "import atexit\n"
        "from rewind_logger.storage import open_storage\n"
        f"storage = open_storage({bucket.url!r}, {options!r})\n"
        "storage.put('a', b'1')\n"
        "def last_words():\n"
        "    storage.put('b', b'2')\n"
        "    print(storage.read_many(['a', 'b', 'a']))\n"
        "atexit.register(last_words)\n"
    )
    assert shown == "[b'1', b'2', b'1']\n"
