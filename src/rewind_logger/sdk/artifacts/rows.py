"""The artifacts of a run as rows of the stream `artifacts`, and what a history of such rows amounts to.

A row has one value, JSON text under one of these names:

- `logged`: an artifact was logged. `name`, `type`, `manifest` (`sha256` and `size` of the blob that lists its files),
  `size` and `files` (how many bytes and how many), `aliases`, `description`, `metadata`, and `run` and `revision` that
  logged it.
- `aliases`: the version of the artifact `name` with this `manifest`, and the number `version`, if that is still its
  number, got the aliases in `add` and lost those in `remove`.
- `used`: an artifact was used. `name`, `type`, `version`, `manifest`, `size`, `files`, `run` and `revision`, and
  `store` if that is another one.

Versions are not written down but counted: the first `logged` row of a name is v0, the next v1, … One whose content is
that of the newest version makes no new one, and only moves its aliases there. So a history that is cut has the versions
and aliases that stood there, and what is logged next takes the next free number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewind_logger.errors import CorruptError
from rewind_logger.sdk import told
from rewind_logger.sdk.artifacts.names import LATEST, is_name, parse_version
from rewind_logger.sdk.plain import Json
from rewind_logger.types import Row, Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of an artifact."""

    name: str
    type: str
    number: int
    manifest: str
    """The blob that lists its files; also what its content is known by."""
    size: int
    files: int
    description: str | None
    metadata: Mapping[str, Json]
    run: str | None
    """The run that logged it; None if it was logged before the run was open."""
    revision: int | None
    step: int
    """The training step at which it was logged."""
    time_ms: int
    store: str | None = None
    """The store that it lies in, if it was used from another one."""

    @property
    def label(self) -> str:
        """`name:v3`."""
        return f"{self.name}:v{self.number}"


@dataclass(slots=True)
class Versions:
    """What a history of rows amounts to."""

    by_name: dict[str, list[Version]] = field(default_factory=dict)
    """In the order of their numbers."""
    logged: list[Version] = field(default_factory=list)
    """Of all names, in the order in which they were logged."""
    used: list[Version] = field(default_factory=list)
    """In the order in which they were first used."""
    _aliases: dict[str, dict[str, int]] = field(default_factory=dict)

    def aliases(self, version: Version) -> list[str]:
        """Return the aliases of a version, "latest" first."""
        given = [alias for alias, number in self._aliases.get(version.name, {}).items() if number == version.number]
        newest = self.by_name.get(version.name, [version])[-1].number == version.number
        return [LATEST] * newest + sorted(given)

    def find(self, name: str, which: str) -> Version | None:
        """Return the version that is called `v3` or has this alias, None if there is none."""
        versions = self.by_name.get(name, [])
        if which == LATEST:
            return versions[-1] if versions else None
        number = parse_version(which)
        if number is None:
            number = self._aliases.get(name, {}).get(which)
        return versions[number] if number is not None and number < len(versions) else None

    def add(self, row: Row) -> Version | None:
        """Go on with a row; return the version that it logged or used.

        Raises:
            CorruptError: If it is not as described above. Names that this version does not know are passed over.
        """
        found = None
        for key, text in row.values.items():
            if key not in ("logged", "aliases", "used"):
                continue
            try:
                fields = told.loads(text)
                if key == "logged":
                    found = self._log(fields, row)
                elif key == "aliases":
                    self._realias(fields)
                else:
                    found = _version(fields, fields["version"], row)
                    if all(found.manifest != other.manifest or found.label != other.label for other in self.used):
                        self.used.append(found)
            except (TypeError, LookupError, ValueError, AttributeError) as error:
                if isinstance(error, CorruptError):
                    raise
                raise CorruptError(f"The row of an artifact at step {row.clock} is damaged: {error!r}.") from error
        return found

    def _log(self, fields: Mapping[str, Any], row: Row) -> Version:
        """Count a version, or move the aliases of the newest one."""
        versions = self.by_name.setdefault(_checked(fields["name"]), [])
        version = _version(fields, len(versions), row)
        if versions and (versions[-1].manifest, versions[-1].type) == (version.manifest, version.type):
            version = versions[-1]
        else:
            versions.append(version)
            self.logged.append(version)
        self._mark(version.name, version.number, fields["aliases"], ())
        return version

    def _realias(self, fields: Mapping[str, Any]) -> None:
        """Find the version that a row of aliases means; one that was cut off has none any more."""
        name, number, manifest = _checked(fields["name"]), told.whole(fields["version"]), fields["manifest"]["sha256"]
        versions = self.by_name.get(name, [])
        same = [version.number for version in versions if version.manifest == manifest]
        if same:
            self._mark(name, number if number in same else same[-1], fields["add"], fields["remove"])

    def _mark(self, name: str, number: int, add: Iterable[str], remove: Iterable[str]) -> None:
        """Move aliases."""
        aliases = self._aliases.setdefault(name, {})
        for alias in remove:
            if aliases.get(alias) == number:
                del aliases[alias]
        for alias in add:
            if alias != LATEST:
                aliases[str(alias)] = number


def fold(rows: Iterable[Row]) -> Versions:
    """Return what these rows amount to, in the order in which they were logged; the errors are those of `add`."""
    versions = Versions()
    for row in rows:
        versions.add(row)
    return versions


def logged_values(version: Version, manifest_size: int, aliases: Iterable[str]) -> dict[str, Scalar]:
    """Return the values of a row that logs an artifact; its number is not used."""
    return {
        "logged": _dumps(
            {
                **_fields(version, manifest_size),
                "aliases": list(aliases),
                "description": version.description,
                "metadata": version.metadata,
            }
        )
    }


def used_values(version: Version, manifest_size: int) -> dict[str, Scalar]:
    """Return the values of a row that says that an artifact was used."""
    fields = {**_fields(version, manifest_size), "version": version.number, "store": version.store}
    return {"used": _dumps(fields)}


def alias_values(version: Version, add: Iterable[str], remove: Iterable[str]) -> dict[str, Scalar]:
    """Return the values of a row that changes the aliases of a version."""
    manifest = {"sha256": version.manifest}
    fields = {"name": version.name, "version": version.number, "manifest": manifest}
    return {"aliases": _dumps({**fields, "add": list(add), "remove": list(remove)})}


def _checked(name: object) -> str:
    """Refuse a name that is none: the folder of a download is called so."""
    if not is_name(name):
        raise CorruptError(f"{name!r} is no name of an artifact: its row was damaged, or not written by us.")
    return str(name)


def _version(fields: Mapping[str, Any], number: int, row: Row) -> Version:
    """Read what `logged` and `used` rows have in common."""
    return Version(
        name=_checked(fields["name"]),
        type=told.text(fields["type"]),
        number=told.whole(number),
        manifest=told.text(fields["manifest"]["sha256"]),
        size=told.whole(fields["size"]),
        files=told.whole(fields["files"]),
        description=told.optional_text(fields.get("description")),
        metadata=dict(fields.get("metadata") or {}),
        run=told.optional_text(fields.get("run")),
        revision=told.optional_whole(fields.get("revision")),
        step=row.clock,
        time_ms=row.time_ms,
        store=told.optional_text(fields.get("store")),
    )


def _fields(version: Version, manifest_size: int) -> dict[str, Any]:
    """Write what `_version` reads."""
    return {
        "name": version.name,
        "type": version.type,
        "manifest": {"sha256": version.manifest, "size": manifest_size},
        "size": version.size,
        "files": version.files,
        "run": version.run,
        "revision": version.revision,
    }


def _dumps(fields: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in fields.items() if value is not None}, separators=(",", ":"))
