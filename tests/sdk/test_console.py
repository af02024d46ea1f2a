"""What a process prints is part of its runs, and rewinds with them."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from rewind_logger import ConfigError, init, open_store
from rewind_logger.history import view
from rewind_logger.history.opening import OpenRequest
from rewind_logger.sdk.console import allowance
from rewind_logger.sdk.console.console import Console
from rewind_logger.sdk.run import Run
from rewind_logger.sdk.run_spec import RunSpec
from rewind_logger.storage import open_storage
from rewind_logger.types import RunRef
from tests.conftest import Bucket

OFF: dict[str, Any] = {"project": "p", "system_metrics": False}


def lines(url: str, name: str = "p/r", **options: Any) -> list[tuple[int, str, str]]:
    """Step, source and text of each line."""
    table = open_store(url).run(name).history(stream="console", **options).to_arrow()
    return [(row["_step"], row["source"], row["text"]) for row in table.to_pylist()]


def texts(url: str, name: str = "p/r", **options: Any) -> list[str]:
    """The lines alone."""
    return [text for _, _, text in lines(url, name, **options)]


class Clock:
    """Seconds, as the test wants them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def driven(url: str) -> Iterator[tuple[Run, Console, Clock]]:
    """Open a run whose console does what is due when the test says so."""
    run = Run(RunSpec(storage=open_storage(url), run=RunRef("p", "r")))
    clock = Clock()
    console = Console(run, clock, background=False)
    run._companions.append(console)
    run._open(OpenRequest())
    yield run, console, clock
    run.finish()


def test_what_is_printed_is_read_line_by_line(any_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with init(dir=any_url, id="r", **OFF) as run:
        print("before the first step")
        run.log({"loss": 1.0})
        print("two\nlines", end="\n\n")
        print("something odd", file=sys.stderr)
        run.log({"loss": 0.5})
        sys.stdout.writelines(["written\n", "without an end"])
    print("after the end")
    assert lines(any_url) == [
        (0, "stdout", "before the first step"),
        (1, "stdout", "two"),
        (1, "stdout", "lines"),
        (1, "stdout", ""),
        (1, "stderr", "something odd"),
        (2, "stdout", "written"),
        (2, "stdout", "without an end"),
    ]
    out, _ = capsys.readouterr()
    assert out == "before the first step\ntwo\nlines\n\nwritten\nwithout an endafter the end\n"


def test_the_forms_in_which_it_is_read(any_url: str) -> None:
    with init(dir=any_url, id="r", **OFF):
        print("out")
        print("err", file=sys.stderr)
    history = open_store(any_url).run("p/r").history(stream="console")
    frame = history.to_pandas()
    assert list(frame.columns) == ["_step", "_timestamp", "source", "text"]
    assert frame["text"].tolist() == history.to_polars()["text"].to_list() == ["out", "err"]
    assert frame["_timestamp"].is_monotonic_increasing
    assert (len(history), str(history), repr(history)) == (2, "out\nerr\n", "ConsoleHistory(2 lines)")
    with pytest.raises(ConfigError, match="to_pandas"):
        history.to_long()
    assert texts(any_url, keys="stderr") == ["err"]
    with pytest.raises(ConfigError, match="use 'stdout' or 'stderr'"):
        texts(any_url, keys="loss")


def test_it_rewinds_with_the_run(any_url: str) -> None:
    with init(dir=any_url, id="r", **OFF) as run:
        for step in range(10):
            print(f"step {step}")
            run.log({"loss": 1.0})
    with init(dir=any_url, resume_from="r?_step=3", **OFF) as run:
        print("again from 4")
        run.log({"loss": 2.0})
    kept = [f"step {step}" for step in range(4)]
    assert texts(any_url) == [*kept, "again from 4"]
    assert texts(any_url, "p/r@1") == [f"step {step}" for step in range(10)]
    assert texts(any_url, "p/r@1?_step=5") == [f"step {step}" for step in range(6)]
    assert texts(any_url, "p/r?_step=1") == kept[:2]
    assert texts(any_url, start=2, stop=4) == kept[2:]
    with init(dir=any_url, fork_from="r@1?_step=5", id="f", **OFF):
        print("a fork")
    assert texts(any_url, "p/f") == [*[f"step {step}" for step in range(6)], "a fork"]


def test_what_was_printed_after_the_last_step_is_no_reason_for_a_revision(url: str) -> None:
    with init(dir=url, id="r", **OFF) as run:
        run.log({"loss": 1.0})
        print("the end")
    with init(dir=url, resume_from="r?_step=0", **OFF) as run:
        assert (run.revision, run.step) == (1, 1)
        print("on")
    assert texts(url) == ["the end", "on"]
    assert texts(url, "p/r?_step=0") == []


def test_what_was_printed_in_a_later_step_is(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with init(dir=url, id="r", **OFF) as run:
        run.log({"loss": 1.0})
        run.log({}, step=3)
        print("a step of which nothing was logged")
    with init(dir=url, resume_from="r?_step=0", **OFF) as run:
        assert run.revision == 2
    assert "rewound to step 0; what was printed or set since is archived as r@1." in capsys.readouterr().err
    assert (texts(url), texts(url, "p/r@1")) == ([], ["a step of which nothing was logged"])


def test_lines_stay_apart_where_many_terms_were_put_together(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of lines of one opening are never those of another."""
    monkeypatch.setattr(view, "LONG_LINEAGE", 3)
    for turn in range(8):
        with init(dir=url, id="r", **OFF) as run:
            print("turn", turn)
            run.log({"loss": 1.0})
    assert list(Path(url).rglob("merge.json")), "the test tests what it says"
    assert texts(url) == [f"turn {turn}" for turn in range(8)]
    with init(dir=f"{url}-other", fork_from=open_store(url).run("p/r?_step=4"), id="f", **OFF):
        print("elsewhere")
    assert texts(f"{url}-other", "p/f") == [*[f"turn {turn}" for turn in range(5)], "elsewhere"]


def test_a_progress_bar_is_a_line_as_it_stood(any_url: str) -> None:
    with driven(any_url) as (run, console, clock), tqdm(total=6, desc="epoch", mininterval=0) as bar:
        for _ in range(6):
            bar.update()
            clock.now += 1
            console.tick()
            run.log({"loss": 1.0})
        print("within the bar")
    assert [text[:28].split("/")[0] for text in texts(any_url)] == ["epoch: 100%|██████████| 6", "within the bar"]
    (bar_then,) = texts(any_url, "p/r?_step=2", keys="stderr")
    assert bar_then.startswith("epoch:  50%|█████     | 3/6")
    step, _, _ = lines(any_url, keys="stderr")[0]
    assert step == 6, "when it was drawn last"


def test_nested_bars_and_a_bar_that_leaves_nothing(any_url: str) -> None:
    with driven(any_url) as (_, console, clock):
        for _ in tqdm(range(2), desc="outer", mininterval=0):
            for _ in tqdm(range(3), desc="inner", mininterval=0, leave=False):
                clock.now += 1
                console.tick()
    assert [text.split("|")[0] for text in texts(any_url)] == ["outer: 100%"]


def test_an_unfinished_line_is_recorded_once_a_second(any_url: str) -> None:
    with driven(any_url) as (run, console, clock):
        recorded: list[str] = []
        append = run._append

        def record(stream: Any, values: Any, *args: Any) -> None:
            recorded.extend(value for key, value in values.items() if key != "line")
            append(stream, values, *args)

        run._append = record  # type: ignore[assignment]
        for tenth in range(100):
            print(f"\r{tenth}", end="")
            clock.now += 0.1
            console.tick()
        assert 9 <= len(recorded) <= 10
        print("\rdone")
        assert recorded[-1] == "done", "at once"
        print("asked", end="")
        assert run.flush()
        assert recorded[-1] == "asked", "before a flush"
    assert texts(any_url) == ["done", "asked"]


def test_a_runaway_printer_fills_nothing(any_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "BURST_LINES", 1_000)
    with driven(any_url) as (_, console, clock):
        for second in range(3):
            for number in range(5_000):
                print(second, number)
            clock.now += 1
            console.tick()
        print("the end")
    found = texts(any_url)
    assert found[:1_000] == [f"0 {number}" for number in range(1_000)]
    assert found[1_000] == "[rewind-logger: 3,900 lines that came too fast were not recorded]"
    assert found[1_001:1_101] == [f"0 {number}" for number in range(4_900, 5_000)]
    assert found[-1] == "the end"
    assert len(found) < 1_700


def test_each_run_gets_its_copy(any_url: str) -> None:
    with init(dir=any_url, id="r", **OFF):
        print("for one")
        with init(dir=any_url, id="s", **OFF):
            print("for both")
        print("for one again")
    assert texts(any_url) == ["for one", "for both", "for one again"]
    assert texts(any_url, "p/s") == ["for both"]


def test_it_can_be_turned_off(any_url: str) -> None:
    write = sys.stdout.write
    with init(dir=any_url, id="r", console=False, **OFF):
        print("not for the run")
        assert sys.stdout.write == write
    with init(dir=any_url, id="s", mode="disabled", **OFF):
        print("neither")
        assert sys.stdout.write == write
    assert texts(any_url) == []


def test_a_run_at_rest_hears_nothing_and_the_streams_are_as_they_were(url: str) -> None:
    before, threads = (dict(vars(sys.stdout)), dict(vars(sys.stderr))), threading.active_count()
    with init(dir=url, id="r", **OFF):
        assert "write" in vars(sys.stdout)
    assert (dict(vars(sys.stdout)), dict(vars(sys.stderr))) == before
    assert threading.active_count() == threads


def test_the_lines_of_the_logger_itself_are_not_part_of_it(any_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with init(dir=any_url, id="r", **OFF) as run:
        run.log({"a": 1})
    assert "is new" in capsys.readouterr().err
    assert texts(any_url) == []


def test_on_s3(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path))
    options = bucket.storage_options
    with init(dir=bucket.url, id="r", storage_options=options, **OFF) as run:
        for step in range(3):
            print(f"step {step}")
            run.log({"a": 1})
    with init(dir=bucket.url, resume_from="r?_step=0", storage_options=options, **OFF):
        print("again")
    store = open_store(bucket.url, options)
    assert store.run("p/r").history(stream="console").text() == "step 0\nagain\n"
    assert store.run("p/r@1").history(stream="console").text() == "step 0\nstep 1\nstep 2\n"


def test_whoever_prints_never_waits_for_whoever_logs(url: str) -> None:
    """A thread that holds the lock of a logging handler prints, while another logs to the run and reports something."""
    with driven(url) as (run, console, _):
        with run._lock:
            printer = threading.Thread(target=print, args=("meanwhile",))
            printer.start()
            printer.join(60)
            assert not printer.is_alive()
        console.tick()
    assert texts(url) == ["meanwhile"]


def test_threads_that_print_at_a_time(url: str) -> None:
    def work(number: int) -> None:
        for i in range(2_000):
            sys.stdout.write(f"{number} {i}\n")

    with init(dir=url, id="r", **OFF):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = texts(url)
    for number in range(4):
        assert [line for line in found if line.startswith(f"{number} ")] == [f"{number} {i}" for i in range(2_000)]
    assert len(found) == 8_000


def test_what_a_logging_handler_writes(url: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("of a user")
    logger.addHandler(handler)
    try:
        with init(dir=url, id="r", **OFF):
            logger.warning("careful")
    finally:
        logger.removeHandler(handler)
    assert lines(url) == [(0, "stderr", "careful")]


def test_text_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's name may hold a byte that is no character."""
    with open(os.devnull, "w", errors="surrogateescape") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        with init(dir=url, id="r", **OFF):
            print("bad\udcffname")
    assert texts(url) == ["bad?name"]
