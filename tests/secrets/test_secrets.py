"""What opens a store is never in it, and never in what people and tools are shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewind_logger.storage import open_storage
from tests.conftest import Bucket
from tests.emulators.servers import sftp
from tests.secrets.canaries import assert_nothing_leaks, canary, endpoint
from tests.servers import Answer, S3Server, ScriptedServer

ROOT = Path(__file__).parents[2]

FROM_ENVIRONMENT = {
    name: canary(f"Env{number}")
    for number, name in enumerate(
        ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY", "WANDB_API_KEY", "DATABASE_PASSWORD")
    )
} | {"DATABASE_URL": f"postgres://{canary('EnvUser')}:{canary('EnvPassword')}@host/db"}

ARGUMENTS = [
    f"--api-key={canary('Argument')}",
    f"--store=s3://{canary('ArgumentUser')}:{canary('ArgumentPassword')}@b/x",
]


def use_everything(folder: Path, url: str, options: dict[str, Any], wrong: list[tuple[str, dict[str, Any]]]) -> str:
    """Run the product in a process of its own, in a repository whose remote has a token; return all that it said."""
    code = folder / "code"
    code.mkdir()
    for command in (["init", "-q"], ["remote", "add", "origin", f"https://x:{canary('Git')}@example.invalid/r.git"]):
        subprocess.run(["git", *command], cwd=code, check=True)
    asked = json.dumps({"url": url, "options": options, "wrong": wrong, "folder": str(folder)})
    done = subprocess.run(
        [sys.executable, "-m", "tests.secrets.product", *ARGUMENTS],
        cwd=code,
        input=asked,
        env={
            **os.environ,
            **FROM_ENVIRONMENT,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            "REWIND_LOGGER_SPOOL": str(folder / "spool"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "run p/a" in done.stderr and "Traceback" in done.stdout, "it has seen nothing"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def refusing() -> Iterator[ScriptedServer]:
    """A server that refuses everything, and repeats what it was given."""
    said = (
        f"https://{canary('SaidUser')}:{canary('SaidPassword')}@h/?X-Amz-Signature={canary('SaidSig')} {canary('Key')}"
    )
    with ScriptedServer([Answer.s3_error(403, "AccessDenied", said)]) as server:
        yield server


@pytest.mark.parametrize("away", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_nobody_sees_what_opens_a_store_on_s3(
    bucket: Bucket, s3_server: S3Server, tmp_path: Path, refusing: ScriptedServer, away: bool
) -> None:
    url, working = f"{bucket.url}/x", bucket.storage_options
    options = {**endpoint(""), "client_kwargs": working["client_kwargs"]}
    # The client refuses an endpoint with a user in it, and so the server has its turn without.
    refused = {**options, "client_kwargs": {"endpoint_url": refusing.endpoint}}
    wrong = [("s3://bucket/x", refused), ("s3://bucket/x", endpoint(refusing.endpoint))]
    wrong += [("s3://there-is-no-such-bucket/x", options)]
    if away:  # nobody answers, which takes a while to find out
        wrong = [("s3://bucket/x", endpoint(f"http://127.0.0.1:9?sig={canary('EndpointSig')}"))]
    said = use_everything(tmp_path, url, options, wrong)
    assert away or refusing.requests, "nothing was refused"
    assert assert_nothing_leaks(said, open_storage(url, working), tmp_path), "there is no journal"


@pytest.mark.exhaustive
def test_nobody_sees_the_user_and_the_password_of_a_url(tmp_path: Path) -> None:
    user, password = canary("UrlUser"), canary("UrlPassword")
    with sftp(user, password) as place:
        port = place.storage_options["port"]
        url = f"sftp://{user}:{password}@127.0.0.1:{port}/x"
        nobody = f"sftp://{canary('NoUser')}:{canary('NoPassword')}@127.0.0.1"
        said = use_everything(tmp_path, url, {}, [(f"{nobody}:{port}/x", {}), (f"{nobody}:9/x", {})])
        assert assert_nothing_leaks(said, open_storage(url), tmp_path), "there is no journal"
