"""A process that does all that the product does, with secrets in every place where one can be.

It reads a URL, the options of its backend, and a folder, as JSON. On stderr is what a user sees, and on stdout every
`repr`, and every error as Python prints it.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rewind_logger
from rewind_logger import Artifact, Table, Text, init, open_store, sync
from rewind_logger.history import age
from rewind_logger.storage import open_storage
from tests.secrets.canaries import canary

SIGNED = f"https://{canary('RefUser')}:{canary('RefPassword')}@example.invalid/d.csv?X-Amz-Signature={canary('RefSig')}"


def show(*objects: object) -> None:
    """Print objects as a person or a tool sees them."""
    for one in objects:
        print(repr(one), str(one), sep="\n", flush=True)


def fails(call: Callable[[], object]) -> None:
    """Print the error that a call gives, and all that it was raised from."""
    try:
        show(call())
    except Exception as error:
        show(error)
        print("".join(traceback.format_exception(error)), flush=True)


def live(url: str, options: dict[str, Any], folder: Path) -> None:
    """Use everything once."""
    (folder / "weights.bin").write_bytes(b"0123456789" * 100)
    with init(dir=url, project="p", id="a", config={"lr": 0.1}, tags=["t"], notes="n", storage_options=options) as run:
        show(run, run.config, run.summary, run.url)
        artifact = Artifact("refs", type="data", metadata={"a": 1})
        artifact.add_reference(SIGNED, name="signed")
        artifact.add_reference(f"s3://bucket/key?versionId=3&X-Amz-Security-Token={canary('RefToken')}", name="token")
        artifact.add_file(str(folder / "weights.bin"))
        run.log_artifact(artifact).wait()
        for step in range(4):
            run.log({"loss": step, "text": Text("some"), "table": Table(columns=["a"], data=[[step]])})
        show(artifact, artifact.manifest)
        print("printed by the script")
    with init(dir=url, project="p", resume_from="a?_step=2", storage_options=options) as run:
        run.log({"loss": 30})
    with init(dir=url, project="p", id="b", fork_from="a@1?_step=1", storage_options=options) as run:
        run.use_artifact("a/refs:v0")
        run.log({"loss": 20})
    store = open_store(url, options)
    head = store.run("p/a")
    show(store, store.runs(), head, head.history(), head.history("loss").to_arrow(), head.revisions, head.artifacts)
    show(head.environment, head.config, head.summary, head.checkpoints, head.lineage, store.run("p/a@1"), head.state)
    show(store.verify(), sync(url, storage_options=options), rewind_logger.doctor(url, options))
    with init(dir=str(folder / "other store"), id="c", fork_from=store.run("p/a")) as run:
        run.log({"loss": 40})
    again = pickle.loads(pickle.dumps(head._storage))
    show(again, getattr(again, "inner", again))


def go_wrong(urls: list[tuple[str, dict[str, Any]]], folder: Path) -> None:
    """Make what is called fail in all ways, with secrets in what it is given."""
    for url, options in urls:
        store, storage = open_store(url, options), open_storage(url, options)
        fails(store.runs)
        fails(lambda: store.run("p/a").history())  # noqa: B023  (called at once)
        fails(store.verify)
        fails(lambda: rewind_logger.doctor(url, options))  # noqa: B023
        fails(lambda: sync(url, storage_options=options))  # noqa: B023
        fails(lambda: init(dir=url, project="p", id="a", resume="must", storage_options=options))  # noqa: B023
        fails(lambda: storage.read("a"))  # noqa: B023
        fails(lambda: storage.put_file("a", folder / "weights.bin"))  # noqa: B023
        fails(lambda: storage.create("a", b"x"))  # noqa: B023
    user = f"{canary('BadUser')}:{canary('BadPassword')}"
    for url in (
        f"s3:/{user}@bucket/x?sig={canary('BadSig')}",
        f"nosuch://{user}@host/x?sig={canary('BadSig')}",
        f"s3://{user}@?sig={canary('BadSig')}",
        f"zip://x::https://{user}@host/x.zip?sig={canary('BadSig')}",
        f"smb://{user}@127.0.0.1:9/share/x",
    ):
        fails(lambda: open_store(url).runs())  # noqa: B023
        fails(lambda: init(dir=url, mode="online"))  # noqa: B023
        if "://" in url:  # else it is a path
            fails(lambda: Artifact("r", type="x").add_reference(url))  # noqa: B023
    checkpoint = f"https://{user}@127.0.0.1:9/a.ckpt?sig={canary('BadSig')}"
    here = str(folder / "other store")
    for given in (checkpoint, checkpoint.replace(".ckpt", ""), f"{checkpoint}?_step=3", f"p/a?_step={user}"[:12]):
        fails(lambda: init(dir=here, fork_from=given))  # noqa: B023
        fails(lambda: init(dir=here, resume_from=given))  # noqa: B023
        fails(lambda: init(dir=here, id="x", fork_from=given, step=3))  # noqa: B023
    with init(dir=here, id="d") as run:
        artifact = Artifact("refs", type="data")
        for number, reference in enumerate((SIGNED.replace("example.invalid", "127.0.0.1:9"), checkpoint)):
            artifact.add_reference(reference, name=str(number))
        fails(lambda: artifact.add_reference(checkpoint, name="0"))
        run.log_artifact(artifact).wait()
        fails(lambda: run.use_artifact("refs:v0").download(str(folder / "down")))
        fails(lambda: run.use_artifact(checkpoint))
        fails(lambda: run.log_artifact(checkpoint, name="ref", type="data"))


def leave(url: str, options: dict[str, Any]) -> None:
    """End in the midst of a run, as a kill does: what it logged is in its journal alone, in the spool."""
    age.REMOTE_AGE_S = (3600.0, 3600.0)
    run = init(dir=url, project="p", id="left", config={"lr": 0.1}, tags=["t"], notes="n", storage_options=options)
    run.log({"loss": 0.0, "text": Text("some")})
    print("printed by the script", flush=True)
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    logging.basicConfig()
    logging.getLogger("rewind_logger").setLevel(logging.DEBUG)
    asked = json.load(sys.stdin)
    folder = Path(asked["folder"])
    live(asked["url"], asked["options"], folder)
    go_wrong([(url, options) for url, options in asked["wrong"]], folder)
    leave(asked["url"], asked["options"])


if __name__ == "__main__":
    main()
