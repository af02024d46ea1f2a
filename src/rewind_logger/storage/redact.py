"""Nothing that opens a store may show in what people see of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

_SECRET_NAME = re.compile(r"key|secret|token|pass|cred|sas|connection_string|sig|auth|user", re.IGNORECASE)
_HARMLESS_NAME = re.compile(r"expir|path$|file$|kms", re.IGNORECASE)
_USERINFO = re.compile(r"(:/{1,2})[^/\s@]*@")
_QUERY = re.compile(r"(:/[^\s?'\"]*)\?[^\s'\"]*")
"""With one slash, too: that is what `pathlib` makes of a URL."""

_CONTAINER_PROTOCOLS = frozenset({"abfs", "abfss", "wasb", "wasbs"})
"""`abfss://container@account…/path`: what stands before the @ is a place, not a user."""

_BUCKET_PROTOCOLS = frozenset({"s3", "s3a", "gs", "gcs", "az", "memory", "file", "local"})
"""Of which a URL names no host: that is said by the options, or is the provider's."""

_SHORTEST_SECRET = 4
"""Shorter values are no secrets worth the name, and hiding each of their letters would garble the message."""


def public_url(url: str) -> str:
    """Return a URL without user, password and query.

    Example:
        >>> public_url("sftp://me:secret@host/runs?token=x")
        'sftp://host/runs'
    """
    protocol, separator, rest = url.partition("://")
    rest = rest.partition("?")[0]
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    if at and (protocol not in _CONTAINER_PROTOCOLS or ":" in user):
        place = host
    return f"{protocol}{separator}{place}{slash}{path}".rstrip("/")


def host_of(url: str) -> str | None:
    """Return the host to which a URL sends what opens it; None where the URL does not choose it, as for a bucket.

    A URL may come from what somebody else wrote. Options that were given for one host must not be sent to another.

    Example:
        >>> host_of("sftp://me@host:22/runs"), host_of("s3://bucket/runs")
        ('host:22', None)
    """
    protocol, separator, rest = url.partition("://")
    if not separator or protocol.lower() in _BUCKET_PROTOCOLS:
        return None
    return rest.partition("/")[0].rpartition("@")[2].lower()


def secrets_of(url: str, options: Mapping[str, object]) -> frozenset[str]:
    """Collect what must not be shown: the URL's user, password and query, and the options whose names tell."""
    found = set(_secret_values(options, inherited=False))
    place = url.partition("://")[2].partition("/")[0]
    userinfo, at, _ = place.rpartition("@")
    if at and public_url(url).partition("://")[2].partition("/")[0] != place:
        found.update(userinfo.split(":"))
        found.update(unquote(part) for part in userinfo.split(":"))
    found.add(urlsplit(url).query)
    return frozenset(value for value in found if len(value) >= _SHORTEST_SECRET)


def redact(text: str, secrets: frozenset[str]) -> str:
    """Hide `secrets`, and the user and query of every URL, in a text that a backend wrote."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return _QUERY.sub(r"\1?…", _USERINFO.sub(r"\1…@", text))


def public_text(text: str) -> str:
    """Return what a person gave, and what may be or hold a URL, without users and queries of URLs.

    Example:
        >>> public_text("s3:/me:secret@bucket/a?sig=x")
        's3:/…@bucket/a?…'
    """
    return redact(text, frozenset())


def lasting_url(url: str) -> str:
    """Return a URL to be kept: without user and password, and without a query that signs it.

    Example:
        >>> lasting_url("s3://bucket/key?versionId=3")
        's3://bucket/key?versionId=3'
        >>> lasting_url("https://me:secret@host/key?X-Amz-Signature=ab&X-Amz-Date=1")
        'https://host/key'
    """
    bare, mark, query = url.partition("?")
    signed = any(_SECRET_NAME.search(pair.partition("=")[0]) for pair in re.split("[&;#]", query))
    public = public_url(bare)
    return (bare if bare.rstrip("/") == public else public) + ("" if signed else f"{mark}{query}")


def tells(error: BaseException, secrets: frozenset[str]) -> bool:
    """Whether an error, or one that it came from, says something that is not for everyone: tracebacks print it."""
    seen: list[BaseException] = []
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is not None and not any(link is one for one in seen):
            seen.append(link)
            links += [link.__cause__, link.__context__]
    return any(redact(text := str(link), secrets) != text for link in seen)


def _secret_values(options: Mapping[str, object], *, inherited: bool) -> Iterator[str]:
    """Walk through nested options; what lies below a secret name is secret as a whole."""
    for name, value in options.items():
        secret = inherited or (bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name))
        if isinstance(value, Mapping):
            yield from _secret_values(value, inherited=secret)
        elif isinstance(value, str):
            if secret:
                yield value
            elif "://" in value:
                yield from secrets_of(value, {})
