"""A store that misbehaves, seen through the real client: training goes on, and in the end every row is there, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rewind_logger import Run, StorageError, TransientStorageError, init, open_store, sync
from rewind_logger.sdk import run as run_module
from rewind_logger.storage import remote
from tests.conftest import Bucket
from tests.figures import count
from tests.proxy import Proxy, Request, Trouble, always
from tests.servers import Answer

SLOW_DOWN = Answer.s3_error(503, "SlowDown", "Please reduce your request rate.")
QUIET: dict[str, Any] = {"console": False, "system_metrics": False}


pytestmark = pytest.mark.usefixtures("no_waits")


@pytest.fixture
def where(proxy: Proxy, bucket: Bucket) -> dict[str, Any]:
    return {"dir": f"{bucket.url}/exp", "storage_options": proxy.storage_options, "project": "p", **QUIET}


def wait_for_opening(run: Run) -> None:
    """Wait until the run is open."""
    assert run.flush(60)


def steps(where: dict[str, Any], bucket: Bucket, name: str = "p/a") -> list[tuple[Any, Any]]:
    """Return step and value of each row, as the server has them."""
    table = open_store(where["dir"], bucket.storage_options).run(name).history(["a"]).to_arrow()
    return list(zip(table["_step"].to_pylist(), table["a"].to_pylist(), strict=True))


def outages(caplog: pytest.LogCaptureFixture) -> tuple[list[str], list[str]]:
    """Return what was said when the store went away, and when it came back."""
    said = [record.getMessage() for record in caplog.records]
    return [text for text in said if "goes on in its journal" in text], [text for text in said if "again after" in text]


def test_a_store_that_is_away_from_the_start_is_opened_when_it_is_back(
    proxy: Proxy, where: dict[str, Any], bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.plan = always(Trouble.HANG_UP)
    run = init(**where, id="a", config={"lr": 0.1}, tags=["x"])
    for i in range(50):
        run.log({"a": i})
    run.config["lr"] = 0.2
    run.summary["best"] = 7
    assert (run.step, run.starting_step, run.resumed, run.summary["a"]) == (50, 0, False, 49)
    assert len(outages(caplog)[0]) == 1
    proxy.plan = lambda request: None
    wait_for_opening(run)
    for i in range(50, 60):
        run.log({"a": i})
    run.finish()
    found = steps(where, bucket)
    count("rows checked", 60)
    count("rows lost", 60 - len(set(found)))
    assert found == [(i, i) for i in range(60)]
    stored = open_store(where["dir"], bucket.storage_options).run("p/a")
    assert (stored.config, stored.tags, stored.summary["best"]) == ({"lr": 0.2}, ("x",), 7)
    assert stored.environment is not None
    assert (stored.state, stored.created <= stored.started) == ("finished", True)
    went, came = outages(caplog)
    assert (len(went), len(came)) == (1, 1)
    assert "requests had failed and were made again" in came[0]


def test_a_run_that_exists_goes_on_at_its_end_when_the_store_is_back(
    proxy: Proxy, where: dict[str, Any], bucket: Bucket
) -> None:
    with init(**where, id="a", config={"lr": 0.1, "seed": 1}) as run:
        for i in range(10):
            run.log({"a": i})
    proxy.plan = always(SLOW_DOWN)
    run = init(**where, id="a", config={"lr": 0.3})
    for i in range(10, 15):
        run.log({"a": i})
    assert run.step == 5, "where the run ends is not known yet"
    proxy.plan = lambda request: None
    wait_for_opening(run)
    assert (run.step, run.starting_step, run.resumed) == (15, 10, True)
    assert run.config == {"lr": 0.3, "seed": 1}
    run.log({"a": 15})
    run.finish()
    assert steps(where, bucket) == [(i, i) for i in range(16)]


def test_steps_that_are_given_while_the_store_is_away_are_what_they_are(
    proxy: Proxy, where: dict[str, Any], bucket: Bucket
) -> None:
    with init(**where, id="a") as run:
        for i in range(10):
            run.log({"a": i})
    proxy.plan = always(Trouble.HANG_UP)
    run = init(**where, id="a")
    run.log({"before": 1})
    for i in range(8, 13):
        run.log({"a": i}, step=i)
    proxy.plan = lambda request: None
    wait_for_opening(run)
    run.log({"a": 13}, step=13)
    run.finish()
    found = open_store(where["dir"], bucket.storage_options).run("p/a").history(["a"]).to_arrow().to_pylist()
    late = [(row["_step"], row["a"], row.get("step")) for row in found[10:]]
    assert late == [(10, 8, 8), (10, 9, 9), (10, 10, None), (11, 11, None), (12, 12, None), (13, 13, None)]


def test_a_store_that_never_comes_back_is_told_of_in_one_sentence_with_the_command_that_brings_rows_in(
    proxy: Proxy,
    where: dict[str, Any],
    bucket: Bucket,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_module, "FINISH_TIMEOUT_S", 0.2)
    monkeypatch.setattr(run_module, "AFTER_UPLOADS_S", 0.0)
    proxy.plan = always(Trouble.HANG_UP)
    run = init(**where, id="a", config={"lr": 0.1})
    for i in range(20):
        run.log({"a": i})
    run.finish()
    assert run.flush() is False
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("rewind-logger: run p/a finished, but not all of it is in the store: ")
    assert f"kept in {run._writer._root}" in last
    assert last.endswith(f"python -c \"import rewind_logger; rewind_logger.sync('{where['dir']}')\"")
    proxy.plan = lambda request: None
    (found,) = sync(where["dir"], storage_options=bucket.storage_options)
    assert found.what == "brought in"
    assert steps(where, bucket) == [(i, i) for i in range(20)]
    stored = open_store(where["dir"], bucket.storage_options).run("p/a")
    assert stored.config == {"lr": 0.1}


def test_that_rows_are_not_in_the_store_is_said_also_where_lines_are_silenced(
    proxy: Proxy, where: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWIND_LOGGER_QUIET", "1")
    monkeypatch.setattr(run_module, "FINISH_TIMEOUT_S", 0.2)
    monkeypatch.setattr(run_module, "AFTER_UPLOADS_S", 0.0)
    run = init(**where, id="a")
    proxy.plan = always(Trouble.HANG_UP)
    run.log({"a": 1})
    run.finish()
    [line] = capsys.readouterr().err.splitlines()
    assert "run p/a finished, but not all of it is in the store" in line and "To bring it in: python -c" in line


@pytest.mark.parametrize("given", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_the_next_process_brings_in_what_one_left_that_had_no_store(
    given: bool, proxy: Proxy, where: dict[str, Any], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also behind rows that the run had before; steps as they would have been."""
    monkeypatch.setattr(run_module, "FINISH_TIMEOUT_S", 0.05)
    monkeypatch.setattr(run_module, "AFTER_UPLOADS_S", 0.0)
    for life in range(3):
        proxy.plan = always(Trouble.HANG_UP) if life != 1 else (lambda request: None)
        run = init(**where, id="a")
        for i in range(5):
            run.log({"a": 5 * life + i}, step=5 * life + i if given else None)
        run.finish()
    proxy.plan = lambda request: None
    with init(**where, id="a") as run:
        assert run.step == 15
    assert steps(where, bucket) == [(i, i) for i in range(15)]


@pytest.mark.parametrize(
    "asked",
    [
        {"resume_from": "a?_step=3"},
        {"fork_from": "a?_step=3"},
        {"id": "a", "resume": "must"},
        {"id": "a", "resume": "never"},
    ],
    ids=lambda asked: " ".join(asked),
)
def test_what_only_the_store_can_tell_is_refused_with_what_to_do(
    asked: dict[str, Any], proxy: Proxy, where: dict[str, Any]
) -> None:
    proxy.plan = always(SLOW_DOWN)
    with pytest.raises(TransientStorageError, match=r"SlowDown|reduce your request rate") as raised:
        init(**where, **asked)
    assert "has to answer: try again then" in str(raised.value)


def test_credentials_that_are_refused_at_the_start_are_an_error(proxy: Proxy, where: dict[str, Any]) -> None:
    proxy.plan = always(Answer.s3_error(403, "AccessDenied"))
    with pytest.raises(StorageError, match="access was denied"):
        init(**where, id="a")


def test_the_end_of_a_run_says_what_was_made_again(
    proxy: Proxy,
    where: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # in a working tree with changes these are stored, too, and count
    with init(**where, id="a") as run:
        begun = len(proxy.requests)
        proxy.plan = lambda request: SLOW_DOWN if request.number in (begun, begun + 1) else None
        run.log({"a": 1})
        assert run.flush(60)
    assert "run p/a finished at step 0. 2 requests had failed and were made again." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (400, "ExpiredToken", "credentials have expired"),
        (403, "ExpiredToken", "credentials have expired"),
        (403, "InvalidAccessKeyId", "access was denied"),
        (403, "AccessDenied", "access was denied"),
    ],
)
def test_credentials_that_expire_in_mid_run_are_looked_for_anew(
    status: int,
    code: str,
    told: str,
    proxy: Proxy,
    where: dict[str, Any],
    bucket: Bucket,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "REOPENED_AFTER_S", 0.0)
    found = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(found))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    options = {name: value for name, value in where["storage_options"].items() if name not in ("key", "secret")}
    valid = "AKIAFIRST"

    def write(key: str) -> None:
        found.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s3cr3t-of-{key}\n")

    def check(request: Request) -> Answer | None:
        if f"Credential={valid}/" in request.headers["Authorization"]:
            return None
        # What is wrong stands in the body, and the answer to a HEAD has none.
        return Answer(status) if request.verb == "HEAD" else refused

    refused = Answer.s3_error(status, code)
    write(valid)
    proxy.plan = check
    run = init(**{**where, "storage_options": options}, id="a")
    run.log({"a": 0})
    assert run.flush(60)
    valid = "AKIASECOND"
    for i in range(1, 5):
        run.log({"a": i})
    with pytest.raises(StorageError, match=told):
        run.flush()
    run.log({"a": 5})
    write(valid)
    for _ in range(100):
        try:
            run.flush(60)
            break
        except StorageError:  # of an attempt that had begun with the old ones
            continue
    run.finish()
    assert steps(where, bucket) == [(i, i) for i in range(6)]
    went, came = outages(caplog)
    assert (len(went), len(came)) == (1, 1)
    assert not any("s3cr3t" in text for text in (caplog.text, *went, *came))
