"""A storage on S3, and on servers that speak its protocol."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rewind_logger.storage.base import CHUNK_BYTES, ObjectInfo, Unfinished
from rewind_logger.storage.remote import CONCURRENCY, FsspecStorage, seconds
from rewind_logger.storage.translate import is_unsupported

MOST_PARTS = 10_000
"""Of one upload, which S3 sets."""

ATTEMPTS_OF_A_PART = 5
"""How often a part is sent, at most."""

PARTS_AT_ONCE = 4
"""Of one upload; each is in memory twice."""


class S3Storage(FsspecStorage):
    """Objects in a bucket: every method is one request, and `list` one for each 1,000 names.

    Left alone, s3fs tries a request 5 times and a read 5 times that, botocore tries each of these 5 times, and aiohttp
    each of those twice: a read made 250 requests in 204 s of a server that hung up. Here s3fs and botocore try once,
    and `RetryingStorage` is the only one that tries again (aiohttp still does, once, when a connection was closed).
    A `config_kwargs={"retries": …}` in `storage_options` is kept as it is.
    """

    suffix_ranges = True

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        super().__init__(url, storage_options)
        self._sending: dict[int, Any] = {}

    def _new_filesystem(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Open the file system such that it tries once."""
        config = {
            "retries": {"mode": "standard", "total_max_attempts": 1},
            # botocore's 10 would make the rest of a batch, and a flush meanwhile, wait.
            "max_pool_connections": 2 * CONCURRENCY,
            **options.get("config_kwargs", {}),
        }
        filesystem, root = super()._new_filesystem(url, {**options, "config_kwargs": config})
        filesystem.retries = 1
        return filesystem, root

    def _for_files(self, filesystem: Any, size: int) -> Any:
        """Send large files with a client that tries a part again: to begin anew for each could take for ever."""
        if size < 2 * CHUNK_BYTES:
            return filesystem
        sending = self._sending.get(id(filesystem))
        if sending is None:
            retries = {"mode": "standard", "total_max_attempts": ATTEMPTS_OF_A_PART}
            config = {"retries": retries, **self._options.get("config_kwargs", {})}
            sending, _ = self._new_filesystem(self._private_url, {**self._options, "config_kwargs": config})
            sending = self._sending.setdefault(id(filesystem), sending)
        return sending

    def _reopen(self) -> None:
        super()._reopen()
        self._sending.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_sending": {}}

    def _upload_options(self, size: int) -> dict[str, Any]:
        """Send parts of a few MiB; s3fs would send ten of 50 MiB at a time."""
        return {"chunksize": max(CHUNK_BYTES, -(-size // MOST_PARTS)), "max_concurrency": PARTS_AT_ONCE}

    def size(self, path: str) -> int:
        """See `Storage.size`."""
        return int(self._head(path)["ContentLength"])

    def info(self, path: str) -> ObjectInfo:
        """See `Storage.info`."""
        head = self._head(path)
        return ObjectInfo(path.rpartition("/")[2], int(head["ContentLength"]), seconds(head["LastModified"]))

    def touch(self, path: str) -> bool:
        """See `Storage.touch`: the server copies the object onto itself."""
        filesystem, key = self._locate(path)
        with self._translated("write", path):
            # Without the directive S3 refuses a copy onto itself, for it changes nothing. s3fs copies large objects in
            # parts, and then leaves the directive out, as it must.
            filesystem.cp_file(key, key, MetadataDirective="REPLACE")
        return True

    def unfinished(self, skip: Collection[str] = ()) -> Iterator[Unfinished]:
        """See `Storage.unfinished`: uploads in parts that were neither completed nor aborted."""
        filesystem, key = self._locate("")
        bucket, prefix, _ = filesystem.split_path(key)
        prefix = f"{prefix}/" if prefix else ""
        page: dict[str, Any] = {}
        while True:
            after = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]} if page else {}
            with self._translated("list", ""):
                try:
                    page = filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **after)
                except Exception as error:
                    if is_unsupported(error):  # as small servers do: what they keep of uploads is theirs
                        return
                    raise
            for upload in page.get("Uploads", ()):
                name = upload["Key"][len(prefix) :]
                if not skip or not set(name.split("/")[:-1]) & set(skip):
                    yield Unfinished(f"{name}?uploadId={upload['UploadId']}", None, seconds(upload["Initiated"]))
            if not page.get("IsTruncated"):
                return

    def discard(self, found: Unfinished) -> None:
        """See `Storage.discard`."""
        path, _, upload = found.name.rpartition("?uploadId=")
        filesystem, key = self._locate(path)
        bucket, name, _ = filesystem.split_path(key)
        try:
            with self._translated("delete", path):
                filesystem.call_s3("abort_multipart_upload", Bucket=bucket, Key=name, UploadId=upload)
        except FileNotFoundError:
            pass

    def _head(self, path: str) -> Mapping[str, Any]:
        """Ask for what is known of an object."""
        filesystem, key = self._locate(path)
        with self._translated("look up", path):
            # `info` of the file system goes on to look for a folder of that name.
            bucket, name, _ = filesystem.split_path(key)
            head: Mapping[str, Any] = filesystem.call_s3("head_object", Bucket=bucket, Key=name)
            return head

    def _lines(self, filesystem: Any, key: str) -> Iterator[ObjectInfo]:
        """List a folder, page by page."""
        # `ls` of an empty folder goes on to list its parent, which may hold any number of names.
        bucket, prefix, _ = filesystem.split_path(key)
        prefix = f"{prefix}/" if prefix else ""
        page: dict[str, Any] = {}
        while True:
            after = {"ContinuationToken": page["NextContinuationToken"]} if page else {}
            page = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter="/", **after)
            for folder in page.get("CommonPrefixes", ()):
                yield from _line(folder["Prefix"][len(prefix) : -1])
            for entry in page.get("Contents", ()):
                yield from _line(entry["Key"][len(prefix) :], entry["Size"], seconds(entry.get("LastModified")))
            if not page.get("IsTruncated"):
                return


def _line(name: str, size: int | None = None, modified: float | None = None) -> Iterator[ObjectInfo]:
    """Leave out the mark that consoles make for a folder, which is an object of no name in it, and hidden names."""
    if name and not name.startswith("."):
        yield ObjectInfo(name, size, modified)
