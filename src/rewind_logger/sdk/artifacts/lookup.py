"""From what a person types to an artifact: `model:v3`, `model:best`, `run@1/model:v2`, `p/run?_step=500/model`."""

from __future__ import annotations

from rewind_logger.errors import ArtifactNotFoundError, ConfigError, RunNotFoundError
from rewind_logger.format.wording import kind_of
from rewind_logger.history import catalog, claims, reader
from rewind_logger.history.view import View, resolve
from rewind_logger.sdk import moment
from rewind_logger.sdk.artifacts.artifact import Artifact
from rewind_logger.sdk.artifacts.names import LATEST, parse_version
from rewind_logger.sdk.artifacts.rows import Version, Versions, fold
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef


def check_text(text: object) -> str:
    """Return what names an artifact.

    Raises:
        ConfigError: If it is no text.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{text!r} is {kind_of(text)}: name an artifact by text, such as 'model:v3' or 'run/model'.")
    return text


def split(text: str) -> tuple[str | None, str, str]:
    """Return the moment of a run or None, the name of the artifact, and its version or alias ("latest")."""
    place, slash, artifact = text.rpartition("/")
    name, _, which = artifact.partition(":")
    return place if slash else None, name, which or LATEST


def visible(storage: Storage, view: View) -> Versions:
    """Return the artifacts of a view."""
    return fold(reader.read_rows(storage, view, "artifacts"))


def find_in(versions: Versions, name: str, which: str, where: str) -> Version:
    """Return one version of a history.

    Raises:
        ArtifactNotFoundError: If there is none such; the message names what there is.
    """
    version = versions.find(name, which)
    if version is not None:
        return version
    there = versions.by_name.get(name)
    if there is None:
        names = ", ".join(sorted(versions.by_name)) or "none"
        raise ArtifactNotFoundError(f"There is no artifact {name!r} in {where}. There are: {names}.")
    aliases = sorted({alias for one in there for alias in versions.aliases(one)})
    raise ArtifactNotFoundError(
        f"There is no artifact {name}:{which} in {where}. It has the versions v0 to v{len(there) - 1}, and the aliases "
        f"{', '.join(aliases)}."
    )


def elsewhere(storage: Storage, run: RunRef, text: str) -> Artifact:
    """Return an artifact that is not in a run's own history.

    With a run before its name it is looked for there; else in the other runs of the project, of each of which the rows
    about artifacts are read: a handful of requests a run.

    Args:
        storage: The store.
        run: The run that asks.
        text: What a person typed.

    Raises:
        ArtifactNotFoundError: If there is none such, or several versions could be meant.
        RunNotFoundError: If there is no such run or revision.
        PositionError: If what stands before the name is no run, or has no such step.
    """
    place, name, which = split(text)
    if place is None:
        return _in_project(storage, run.project, name, which, without=run)
    named = moment.parse(place)
    position = named.position(run.project)
    if named.revision is None and named.step is None and not claims.exists(storage, position.run):
        # What W&B calls an artifact by: its project, perhaps below an entity.
        return _in_project(storage, place, name, which)
    view = resolve(storage, position.run, position.revision)
    if named.step is not None:
        view.check_step(named.step)
    versions = visible(storage, view.cut_at(position.next_step))
    version = find_in(versions, name, which, place)
    return Artifact._stored(storage, version, versions.aliases(version))


def _in_project(storage: Storage, project: str, name: str, which: str, without: RunRef | None = None) -> Artifact:
    """Return an artifact of any run of a project: the newest, by wall time, that has the alias; the only `v3`."""
    found: dict[RunRef, tuple[Versions, Version]] = {}
    for run in catalog.runs(storage, project):
        if run == without:
            continue
        try:
            versions = visible(storage, resolve(storage, run))
        except RunNotFoundError:  # its first opening is under way, or was cut short
            continue
        version = versions.find(name, which)
        if version is not None:
            found[run] = versions, version
    if not found:
        others = "other " if without else ""
        raise ArtifactNotFoundError(
            f"There is no artifact {name}:{which} in project {project!r} of {storage.url}, in this run or the "
            f"{others}runs there. Name the run that has it, as in 'run/{name}:{which}' or 'run@1/{name}:{which}'."
        )
    contents = {(version.type, version.manifest) for _, version in found.values()}
    if parse_version(which) is not None and len(contents) > 1:
        several = ", ".join(f"{run.id}/{name}:{which}" for run in found)
        raise ArtifactNotFoundError(f"Several runs have another {name}:{which}. Say which is meant: {several}.")
    versions, version = max(found.values(), key=lambda one: one[1].time_ms)
    return Artifact._stored(storage, version, versions.aliases(version))
