"""The artifacts of a run that is open: logging them and using them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rewind_logger.errors import (
    ArtifactNotFoundError,
    ConfigError,
    RunNotFoundError,
    StorageError,
    TransientStorageError,
)
from rewind_logger.format import manifest
from rewind_logger.format.manifest import Entry
from rewind_logger.history import blobs
from rewind_logger.history.journals.roots import journal_root
from rewind_logger.sdk import notice
from rewind_logger.sdk.artifacts import lookup, staging
from rewind_logger.sdk.artifacts.artifact import Artifact, Logged
from rewind_logger.sdk.artifacts.draft import File, gone
from rewind_logger.sdk.artifacts.names import check_aliases
from rewind_logger.sdk.artifacts.own_rows import PRESENT, OwnRows, Pending
from rewind_logger.sdk.artifacts.rows import Version, alias_values, logged_values, used_values
from rewind_logger.sdk.artifacts.uploads import Upload, Uploads, each
from rewind_logger.sdk.companion import Companion
from rewind_logger.sdk.plain import plain
from rewind_logger.types import OPENING_CLOCK

if TYPE_CHECKING:
    from rewind_logger.sdk.run import Run


class ArtifactLog(Companion):
    """The artifacts of one run that is open."""

    def __init__(self, run: Run) -> None:
        """Take a run; nothing is read before it is needed."""
        self._run = run
        self._storage = run._storage
        self._near = run._storage.local_path is not None or journal_root(run._storage, run._ref) is None
        self._uploads: Uploads | None = None
        self.rows = OwnRows(run)

    # Logging

    def log(self, artifact: Artifact, aliases: Sequence[str] | str | None, clock: int | None = PRESENT) -> Artifact:
        """Log an artifact, which becomes a version; see `Run.log_artifact`, whose errors these are."""
        given = check_aliases(aliases)
        if self._run._spec.disabled:
            return self._pretend(artifact)
        self._run._note_diverted()
        if artifact._logged is not None:
            return self._log_again(artifact, given, clock)
        artifact._draft.check()
        given += [alias for alias in artifact._aliases or () if alias not in given]
        pending = self.rows.begin_row(clock)
        entries = self._store(artifact) if self._near else self._stage(artifact, pending)
        data = manifest.encode(entries)
        digest = blobs.put(self._storage, data) if self._near else blobs.digest_of(data)
        version = self._describe(artifact, entries, digest, pending)
        pending.values = logged_values(version, len(data), given)
        artifact._metadata = dict(version.metadata)
        artifact._enter(self._logged(pending), entries)
        if pending.upload is None:
            self.rows.append(pending)
        else:
            pending.upload.manifest = data
            self._sender().add(pending.upload)
        return artifact

    def _pretend(self, artifact: Artifact) -> Artifact:
        """Have a script go on as if an artifact were logged, in a run that writes nothing."""
        if artifact._logged is None:
            version = self._describe(artifact, {}, blobs.digest_of(b""), self.rows.begin_row(PRESENT))
            aliases = artifact.aliases
            artifact._enter(
                Logged(
                    storage=self._storage,
                    version=lambda: version,
                    aliases=lambda: aliases,
                    wait=lambda timeout: None,
                    stored=False,
                    realias=lambda add, remove: None,
                ),
                None,
            )
        return artifact

    def _store(self, artifact: Artifact) -> dict[str, Entry]:
        """Put the files into a store that is near."""
        entries = dict(artifact._draft.references)

        def one(item: tuple[str, File]) -> None:
            name, file = item
            try:
                entries[name] = Entry(*blobs.put_file(self._storage, file.path))
            except FileNotFoundError:
                raise gone(file.path, name) from None

        each(one, list(artifact._draft.files.items()))  # a disk syncs several small files at once
        return entries

    def _stage(self, artifact: Artifact, pending: Pending) -> dict[str, Entry]:
        """Keep what the files hold, for the upload."""
        draft = artifact._draft
        label = artifact.name if pending.clock is None else f"{artifact.name} of step {pending.clock}"
        entries = dict(draft.references)
        files: list[tuple[Path, str, int]] = []
        waiting = self._sender().staging
        try:
            folder = waiting.begin(label)
        except OSError as error:
            raise _unstaged(artifact, error) from error
        try:
            for number, (name, file) in enumerate(draft.files.items()):
                try:
                    path = file.path if file.policy == "immutable" else folder / f"{number:09d}"
                    sha256, size = blobs.measure(path) if path is file.path else staging.copy(file.path, path)
                except FileNotFoundError:
                    raise gone(file.path, name) from None
                entries[name] = Entry(sha256, size)
                files.append((path, sha256, size))
        except BaseException as error:
            waiting.discard(folder)
            if isinstance(error, OSError):
                raise _unstaged(artifact, error) from error
            raise

        def arrived(keep: object = draft) -> None:  # its temporary files live as long as it does
            self.rows.append(pending)

        pending.upload = Upload(label=label, files=files, manifest=b"", arrived=arrived, folder=folder)
        return entries

    def _log_again(self, artifact: Artifact, aliases: list[str], clock: int | None) -> Artifact:
        """Log what was logged before: here, or in another run of the store. Its files need not be sent again."""
        if artifact._require().storage.url != self._storage.url:
            raise ConfigError(f"{artifact!r} lies in another store: download it, and log a new Artifact of its files.")
        artifact.wait()
        pending = self.rows.begin_row(clock)
        earlier = artifact._version()
        entries = artifact._read()
        data = manifest.encode(entries)
        self._see_to_blobs(artifact, entries, earlier.manifest)
        version = self._describe(artifact, entries, earlier.manifest, pending)
        pending.values = logged_values(version, len(data), aliases)
        again = Artifact._of(version, aliases, self._logged(pending))
        again._aliases = None
        self.rows.append(pending)
        return again

    def _see_to_blobs(self, artifact: Artifact, entries: dict[str, Entry], manifest_digest: str) -> None:
        """Keep what was stored before for the row that is about to refer to it: its run may have been removed."""
        wanted = {entry.sha256: entry.size for entry in entries.values() if entry.sha256 is not None}

        def one(item: tuple[str, int | None]) -> None:
            if not blobs.renew(self._storage, *item):
                raise StorageError(
                    f"{artifact!r} cannot be logged again: a file of it is no longer in {self._storage.url}. Make a "
                    "new Artifact of its files."
                )

        each(one, [*wanted.items(), (manifest_digest, None)])

    def _describe(self, artifact: Artifact, entries: dict[str, Entry], digest: str, pending: Pending) -> Version:
        metadata = plain(artifact.metadata)
        return Version(
            name=artifact.name,
            type=artifact.type,
            number=0,
            manifest=digest,
            size=sum(entry.size or 0 for entry in entries.values()),
            files=len(entries),
            description=artifact.description,
            metadata=metadata if isinstance(metadata, dict) else {},
            run=str(self._run._ref),
            revision=pending.opened.revision if pending.opened is not None else None,
            step=OPENING_CLOCK if pending.clock is None else pending.clock,
            time_ms=pending.time_ms,
        )

    def _logged(self, pending: Pending) -> Logged:
        """Return what an artifact knows of itself that is logged by this row."""

        def version() -> Version:
            if pending.upload is not None and not pending.upload.done.is_set():
                raise ConfigError(
                    f"The artifact {pending.upload.label} is still being uploaded: its version is known after wait()."
                )
            if pending.upload is not None and pending.upload.trouble is not None:
                raise ConfigError(pending.upload.trouble)
            if pending.version is None:
                self.rows.versions()
            if pending.version is None:
                raise ConfigError(
                    f"The run went back to before step {pending.clock}: the artifact is no version of it."
                )
            return pending.version

        def aliases() -> list[str]:
            return self.rows.versions().aliases(version())

        def wait(timeout: float | None) -> None:
            if pending.upload is not None:
                self._sender().wait(pending.upload, timeout)
            run = self._run
            if run._state == "live" and run._opened is not None and not run._flush_rows(timeout):
                raise TransientStorageError(f"Not all of run {run._ref} was stored within that time.")

        def realias(add: list[str], remove: list[str]) -> None:
            self.realias(version(), add, remove)

        return Logged(storage=self._storage, version=version, aliases=aliases, wait=wait, realias=realias)

    def realias(self, version: Version, add: list[str], remove: list[str]) -> None:
        """Change the aliases of a version at the present step."""
        run = self._run
        if run._state != "live" and run._refuses():
            return
        if add or remove:
            pending = self.rows.begin_row(PRESENT)
            pending.values = alias_values(version, add, remove)
            self.rows.append(pending)

    # Using

    def use(self, wanted: str | Artifact, type: str | None, aliases: Sequence[str] | str | None) -> Artifact:
        """Find an artifact, and note that the run uses it; see `Run.use_artifact`, whose errors these are."""
        given = check_aliases(aliases)
        if isinstance(wanted, Artifact):
            artifact = self.log(wanted, given) if wanted._logged is None else wanted
            given = []
        else:
            artifact = self._find(lookup.check_text(wanted))
        if type is not None and artifact.type != type:
            raise ConfigError(f"{artifact!r} is of type {artifact.type!r}, not {type!r}.")
        if self._run._spec.disabled:
            return artifact
        artifact.wait()
        version = artifact._version()
        storage = artifact._require().storage
        if storage.url != self._storage.url:
            version = replace(version, store=storage.url)
        versions = self.rows.versions()
        if all((used.manifest, used.label) != (version.manifest, version.label) for used in versions.used):
            pending = self.rows.begin_row(PRESENT)
            pending.values = used_values(version, len(manifest.encode(artifact._read())))
            self.rows.append(pending)
        if given:
            artifact.aliases = [*artifact.aliases, *given]
            artifact.save()
        return artifact

    def _find(self, text: str) -> Artifact:
        """Return an artifact of the run's own history, or else of another run."""
        place, name, which = lookup.split(text)
        if place is None:
            if self._uploads is not None:
                self._uploads.wait_all()
            versions = self.rows.versions()
            if name in versions.by_name:
                version = lookup.find_in(versions, name, which, f"run {self._run._ref}")
                return self._own(version, versions.aliases(version))
        if self._run._spec.disabled:
            raise ConfigError(f"use_artifact({text!r}): a run with mode='disabled' has no store to look into.")
        if place is None and self._run._opened is None:  # that of a trainer is opened when training begins
            with contextlib.suppress(RunNotFoundError, ArtifactNotFoundError):
                return lookup.elsewhere(self._storage, self._run._ref, f"{self._run._ref}/{text}")
        return lookup.elsewhere(self._storage, self._run._ref, text)

    def _own(self, version: Version, aliases: list[str]) -> Artifact:
        logged = Logged(
            storage=self._storage,
            version=lambda: version,
            aliases=lambda: self.rows.versions().aliases(version),
            wait=lambda timeout: None,
            realias=lambda add, remove: self.realias(version, add, remove),
        )
        return Artifact._of(version, aliases, logged)

    @property
    def uploading(self) -> bool:
        """Whether something is on its way."""
        return self._uploads is not None and self._uploads.busy

    @property
    def gave_up(self) -> bool:
        """Whether the run ended before all of them were in the store."""
        return self._uploads is not None and self._uploads.gave_up

    def arrived(self, timeout: float | None) -> bool:
        """Wait until nothing is on its way; return whether that is so.

        Args:
            timeout: Seconds to wait at most; None: as long as the store takes what it is sent.
        """
        return self._uploads is None or self._uploads.wait_for(timeout)

    # A companion of the run

    def prepare(self) -> None:
        """See `Companion.prepare`."""
        self.rows.prepare()

    def begin(self) -> None:
        """See `Companion.begin`; what a killed process left staged is removed."""
        self.rows.begin()
        root = journal_root(self._storage, self._run._ref)
        if not self._near and root is not None:
            for label in staging.clean(root):
                notice.say(
                    f"the artifact {label} of run {self._run._ref} is not in the store: its process was killed before "
                    "it was sent. Log it again."
                )

    def rest(self, timeout: float) -> None:
        """See `Companion.rest`; as long as the store takes what it is sent, this goes on."""
        if self._uploads is not None:
            self._uploads.settle(timeout, last=self._run._state != "live")

    def disown(self) -> None:
        """See `Companion.disown`."""
        if self._uploads is not None:
            self._uploads.disown()

    def _sender(self) -> Uploads:
        with self._run._lock:
            if self._uploads is None:
                root = journal_root(self._storage, self._run._ref)
                assert root is not None
                self._uploads = Uploads(self._storage, str(self._run._ref), root)
            return self._uploads


def _unstaged(artifact: Artifact, error: OSError) -> StorageError:
    return StorageError(
        f"{artifact!r} could not be kept for its upload: {error}. Make room there, set REWIND_LOGGER_SPOOL to another "
        "folder, or add files with policy='immutable', which are not copied."
    )
