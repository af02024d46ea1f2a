"""What backends raise ⇄ the two classes of errors that the rest of the package knows.

The backends' packages are not imported for this: an error is told by the HTTP status it carries, by the names of its
classes, and by its `errno`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rewind_logger.errors import StorageError, TransientStorageError
from rewind_logger.storage.redact import redact

_PASSING = "It may pass: try again, and check the network and the service if it stays."

_OS_PROBLEMS = {
    errno.ENOSPC: ("no space is left on the device", "Free some, or choose a folder on another disk for the store."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or choose a folder on another disk for the store."),
    errno.EROFS: ("the file system is read-only", "Choose a folder that can be written to for the store."),
    errno.EACCES: ("permission was denied", "Check who owns the folder and its mode, or choose another for the store."),
    errno.EPERM: ("permission was denied", "Check who owns the folder and its mode, or choose another for the store."),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Move that file, or choose another folder."),
    errno.EISDIR: ("it is a folder, not a file", "Move that folder, or choose another name."),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "Choose shorter names, or a shorter folder."),
}
"""Errors of the operating system that stay until someone does something: what happened, and what to do."""

_PASSING_ERRNOS = frozenset(
    {
        errno.EIO,  # Also what s3fs makes of every code of S3 that it does not know, such as a 409.
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.EMFILE,
        errno.ENFILE,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        getattr(errno, "EREMOTEIO", errno.EIO),
    }
)

_PASSING_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 509})
"""409 is S3's ConditionalRequestConflict: two conditional writes of one name met, and neither may have won."""

_PASSING_CODES = frozenset(
    {"BadDigest", "IncompleteBody", "InternalError", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch"}
)
"""S3 answers some of these with status 400."""

_PASSING_CLASSES = frozenset(
    {
        "aiohttp.ClientConnectionError",
        "aiohttp.ClientPayloadError",
        "asyncio.TimeoutError",  # The builtin one from Python 3.11 on.
        "azure.IncompleteReadError",
        "azure.ServiceRequestError",
        "azure.ServiceResponseError",
        "botocore.ChecksumError",
        "botocore.ConnectionError",
        "botocore.FlexibleChecksumError",  # An answer that was damaged on its way.
        "botocore.HTTPClientError",
        "botocore.IncompleteReadError",
        "builtins.ConnectionError",
        "builtins.EOFError",
        "builtins.TimeoutError",
        "botocore.ResponseParserError",  # What a rate limiter's page of HTML ends as.
        "gcsfs.ChecksumError",
        "google.TransportError",
        "paramiko.NoValidConnectionsError",
        "paramiko.SSHException",
        "requests.ChunkedEncodingError",
        "requests.ConnectionError",
        "requests.Timeout",
        "socket.gaierror",
        "urllib3.IncompleteRead",
    }
)
"""Top-level package and name of classes that tell of the network rather than of the request."""

_CERTIFICATE_CLASSES = frozenset({"ClientConnectorCertificateError", "SSLCertVerificationError", "SSLError"})
"""Though most of them are connection errors too."""

_NO_BUCKET_CODES = frozenset({"NoSuchBucket", "ContainerNotFound"})
_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a service said, as far as an error carries it."""

    status: int | None
    code: str | None


def from_os(error: OSError, action: str, where: str) -> StorageError:
    """Translate an error of the local file system.

    Args:
        error: What was raised, no `FileNotFoundError`.
        action: What was tried, to follow "Could not".
        where: The file or folder, as people know it.

    Returns:
        The error to raise: a `TransientStorageError` if trying again may help.
    """
    if error.errno in _PASSING_ERRNOS or isinstance(error, (TimeoutError, ConnectionError)):
        return TransientStorageError(f"Could not {action} {where}: {error.strerror or error}. {_PASSING}")
    what, remedy = _OS_PROBLEMS.get(
        error.errno or 0, (error.strerror or str(error) or type(error).__name__, "Check the disk and the folder.")
    )
    return StorageError(f"Could not {action} {where}: {what}. {remedy}")


def from_backend(error: Exception, action: str, where: str, secrets: frozenset[str] = frozenset()) -> Exception:
    """Translate an error of a remote backend.

    Args:
        error: What was raised.
        action: What was tried, to follow "Could not".
        where: The object or folder, as people know it.
        secrets: What must not appear in the message.

    Returns:
        The error to raise: a `FileNotFoundError`, a `TransientStorageError` if trying again may help, or else a
        `StorageError`.
    """
    answer = _answer_of(error)
    if answer.code not in _NO_BUCKET_CODES and (answer.status == 404 or isinstance(error, FileNotFoundError)):
        return FileNotFoundError(errno.ENOENT, "There is no such object", where)
    said = redact(_describe(error), secrets)
    if _may_pass(error, answer):
        return TransientStorageError(f"Could not {action} {where}: {said}. {_PASSING}")
    what, remedy = _problem(error, answer)
    return StorageError(f"Could not {action} {where}: {what} ({said}). {remedy}")


def is_unsatisfiable_range(error: Exception) -> bool:
    """Whether a service says that the object ends before the first byte that was asked for (416)."""
    answer = _answer_of(error)
    return answer.status == 416 or answer.code == "InvalidRange"


def is_failed_precondition(error: Exception) -> bool:
    """Whether a service says that it did not write because there is an object of that name (412).

    s3fs makes a `FileExistsError` of it only where the answer names the condition, as that of AWS does.
    """
    return isinstance(error, FileExistsError) or _answer_of(error).status == 412


def is_unsupported(error: Exception) -> bool:
    """Whether a backend, or the service behind it, does not know conditional writes (501)."""
    return isinstance(error, NotImplementedError) or _answer_of(error).status == 501


def is_about_credentials(error: Exception) -> bool:
    """Whether other credentials may be what a request needs: these have expired, are missing, or are not enough."""
    answer = _answer_of(error)
    return (
        answer.status in (401, 403)
        or answer.code in _EXPIRED_CODES
        or isinstance(error, PermissionError)
        or any("Credential" in name for _, name in _classes_of(error))
    )


def _problem(error: Exception, answer: _Answer) -> tuple[str, str]:
    """Say what happened and what to do about an error that stays."""
    names = {name for _, name in _classes_of(error)}
    if answer.code in _NO_BUCKET_CODES:
        return "there is no bucket of that name", "Create it, or correct the store's URL."
    if answer.code == "RequestTimeTooSkewed":
        return "this machine's time of day is wrong", "Set it (NTP): the service refuses requests that look old."
    if answer.code in _EXPIRED_CODES:
        return "the credentials have expired", "Renew them where the backend looks for them."
    if any("Credential" in name for name in names) or answer.status == 401:
        return "there are no valid credentials", "Give them in `storage_options`, or where the backend looks for them."
    if answer.status == 403 or isinstance(error, PermissionError):
        return "access was denied", "Check the credentials, and that they allow to read, write and list there."
    if answer.status in (301, 307):
        return "the bucket lies in another region", "Name its region in `storage_options`."
    if names & _CERTIFICATE_CLASSES:
        return "the service's certificate was not accepted", "Check the endpoint and the certificates of this machine."
    if _comes_too_late(error):
        return "this process is ending, and its executors take no more work", "Let the main thread wait for the others."
    return "the store refused the request", "Check the store's URL and `storage_options`."


def _may_pass(error: Exception, answer: _Answer) -> bool:
    """Whether trying again may help."""
    classes = set(_classes_of(error))
    if any(name in _CERTIFICATE_CLASSES for _, name in classes) or _was_never_sent(error) or _comes_too_late(error):
        return False
    # Before the status: a broken connection can have a cause that bears one, which no service has sent.
    if any(f"{package}.{name}" in _PASSING_CLASSES for package, name in classes):
        return True
    if answer.status is not None:
        return answer.status in _PASSING_STATUSES or answer.code in _PASSING_CODES
    return isinstance(error, OSError) and error.errno in _PASSING_ERRNOS


def _was_never_sent(error: Exception) -> bool:
    """Whether the client refused a request, as one to an endpoint with a user; botocore blames the network."""
    return any(
        type(link).__name__ == "HTTPClientError" and isinstance(link.__context__, ValueError) for link in _chain(error)
    )


def _comes_too_late(error: Exception) -> bool:
    """Whether a backend's package could not look up an address, since the process ends; botocore blames the network."""
    return any(
        isinstance(one, RuntimeError) and "cannot schedule new futures after" in str(one)
        for link in _chain(error)
        for one in (link, link.__context__)
    )


def _answer_of(error: Exception) -> _Answer:
    """Find the service's answer in an error or in what caused it."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, Mapping):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return _Answer(_as_status(status), response.get("Error", {}).get("Code"))
        for attribute in ("status_code", "status", "code"):  # azure, aiohttp, gcsfs
            status = _as_status(getattr(link, attribute, None))
            if status is not None:
                return _Answer(status, getattr(link, "error_code", None))
    return _Answer(None, None)


def _as_status(value: object) -> int | None:
    """Take a number or its digits for an HTTP status, if it can be one."""
    if isinstance(value, str) and value.isdecimal():  # gcsfs has it as either
        value = int(value)
    return int(value) if isinstance(value, int) and 300 <= value < 600 else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Go from an error to what it was raised from, and so on."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__


def _classes_of(error: Exception) -> Iterator[tuple[str, str]]:
    """Name the classes of an error and of its causes, as top-level package and name."""
    for link in _chain(error):
        for cls in type(link).__mro__:
            yield cls.__module__.partition(".")[0], cls.__name__


def _describe(error: Exception) -> str:
    """Name an error in one line."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
