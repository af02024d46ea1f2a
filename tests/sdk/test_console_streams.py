"""Whatever stdout and stderr are, what the process writes there comes out as it would without a run."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as RichConsole
from rich.progress import Progress

from rewind_logger import init
from rewind_logger.sdk.console import tap
from tests.history.processes import running
from tests.sdk.test_console import OFF, driven, lines, texts


@pytest.fixture(autouse=True)
def nobody_else_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a process does: what another test left open may listen still."""
    monkeypatch.setattr(tap, "_listeners", ())


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class Tee:
    """Passes on what is written, as those do that copy it to a file."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(text)
        return 42

    def flush(self) -> None:
        self.stream.flush()


def test_write_returns_and_raises_what_the_stream_does(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(io.StringIO):
        def write(self, text: str) -> int:
            if text == "bad":
                raise OSError("no space left")
            super().write(text.upper())
            return 7

    monkeypatch.setattr(sys, "stdout", odd := Odd())
    with init(dir=url, id="r", **OFF):
        assert sys.stdout.write("good\n") == 7
        with pytest.raises(OSError, match="no space left"):
            sys.stdout.write("bad")
        with pytest.raises(TypeError):
            sys.stdout.write()  # type: ignore[call-arg]
    assert odd.getvalue() == "GOOD\n"
    assert texts(url) == ["good"], "what was not written was not recorded"


@pytest.mark.parametrize("stream", [None, object()], ids=["None", "no stream"])
def test_without_a_stream(url: str, monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    with init(dir=url, id="r", **OFF):
        print("still heard", file=sys.stderr)
    assert texts(url) == ["still heard"]


def test_a_stream_that_takes_no_other_write(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        __slots__ = ()

        def write(self, text: str) -> int:
            return len(text)

    monkeypatch.setattr(sys, "stdout", Closed())
    with init(dir=url, id="r", **OFF):
        print("unheard")
    assert texts(url) == []


def test_a_stream_that_was_closed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with init(dir=url, id="r", **OFF):
        with pytest.raises(ValueError, match="closed"):
            print("as without a run")
        print("heard", file=sys.stderr)
    assert texts(url) == ["heard"]


def test_one_stream_for_both(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    both = io.StringIO()
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)
    with init(dir=url, id="r", **OFF):
        print("once")
        print("more", file=sys.stderr)
    assert lines(url) == [(0, "stdout", "once"), (0, "stdout", "more")]


def test_redirected_output_is_not_the_console(url: str) -> None:
    elsewhere = io.StringIO()
    with init(dir=url, id="r", **OFF):
        with contextlib.redirect_stdout(elsewhere):
            print("into a text")
        print("onto the console")
    assert elsewhere.getvalue() == "into a text\n"
    assert texts(url) == ["onto the console"]


def test_a_stream_that_was_replaced_is_found_when_a_run_is_opened(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with init(dir=url, id="r", **OFF) as first:
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        print("nobody has looked")
        with init(dir=url, id="s", **OFF):
            print("both hear")
        first.log({"a": 1})
    assert texts(url) == texts(url, "p/s") == ["both hear"]


def test_a_stream_that_passes_on_to_another_is_heard_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with init(dir=url, id="r", **OFF):
        monkeypatch.setattr(sys, "stdout", Tee(sys.stdout))
        with init(dir=url, id="s", **OFF):
            assert sys.stdout.write("passed on\n") == 42
    assert texts(url) == texts(url, "p/s") == ["passed on"]


def test_others_may_put_their_write_on_top(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As W&B does, which puts back what it found when it ends."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    for number in range(10):
        with init(dir=url, id=f"r{number}", **OFF):
            ours = stream.write
            seen: list[str] = []

            def theirs(text: str, ours: Any = ours, seen: list[str] = seen) -> int:
                seen.append(text)
                return int(ours(text))

            monkeypatch.setattr(stream, "write", theirs, raising=False)
            stream.write("heard\n")
        assert texts(url, f"p/r{number}") == ["heard"]
        stream.write("after\n")
        assert seen == ["heard\n", "after\n"], "theirs stays"
        stream.write = ours  # type: ignore[method-assign]
        stream.write("and again\n")
    assert stream.getvalue() == "heard\nafter\nand again\n" * 10
    assert "write" in vars(stream) and sum(one.stream is stream for one in tap._taps) == 1, "the same one every time"
    with init(dir=url, id="last", **OFF):
        print("the last")
    assert "write" not in vars(stream), "nobody is on top: it is as it was"


def test_others_may_take_ours_off_with_their_own(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    own = stream.write
    with init(dir=url, id="r", **OFF):
        print("heard")
        stream.write = own  # type: ignore[method-assign]
        print("not heard")
        with init(dir=url, id="s", **OFF):
            print("heard again")
    assert texts(url) == ["heard", "heard again"]
    assert stream.getvalue() == "heard\nnot heard\nheard again\n"


def test_a_bar_of_rich(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with driven(url) as (_, console, clock):
        rich = RichConsole(file=sys.stdout, force_terminal=True, width=60, legacy_windows=False)
        with Progress(console=rich, auto_refresh=False) as progress:
            task = progress.add_task("[red]Training", total=3)
            for _ in range(3):
                progress.advance(task)
                progress.refresh()
                clock.now += 1
                console.tick()
            print("[a line in between]")
    found = texts(url)
    assert found[0] == "[a line in between]", "as on the screen, above the bar"
    assert len([text for text in found if "Training" in text]) == 1
    assert "100%" in found[1] and "\x1b[" in found[1], "with its colours"
    assert "\x1b[?25l" in terminal.getvalue(), "what the terminal got is all of it"


def test_what_is_printed_while_a_bar_of_rich_is_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    with driven(url) as (run, *_):
        rich = RichConsole(file=sys.stdout, force_terminal=True, width=60, legacy_windows=False)
        with Progress(console=rich, auto_refresh=False) as progress:
            tasks = [progress.add_task("epoch", total=5), progress.add_task("batch", total=5)]
            for step in range(5):
                for task in tasks:
                    progress.advance(task)
                progress.refresh()
                print("printed at", step)
                run.log({"loss": 1.0})
    printed = [(step, text) for step, _, text in lines(url) if text.startswith("printed")]
    assert printed == [(step, f"printed at {step}") for step in range(5)], "at the step at which it was printed"
    assert texts(url)[:5] == [f"printed at {step}" for step in range(5)], "above the bars"
    assert len(texts(url)) == 7
    assert texts(url, "p/r?_step=1")[:2] == ["printed at 0", "printed at 1"]


def test_a_signal_s_handler_that_prints(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes into the printing of a line, and into the recording of another."""

    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            if text.startswith("line"):
                signal.raise_signal(signal.SIGUSR1)
            return super().write(text)

    def handler(*_: Any) -> None:
        print("from the handler")

    before = signal.signal(signal.SIGUSR1, handler)
    monkeypatch.setattr(sys, "stdout", stream := Interrupted())
    try:
        with driven(url) as (run, _, _):
            append = run._append

            def interrupted(stream: Any, values: Any, *rest: Any) -> None:
                if values.get("stdout") == "odd":
                    signal.raise_signal(signal.SIGUSR1)
                append(stream, values, *rest)

            run._append = interrupted  # type: ignore[assignment]
            print("line 1\nodd")
            print("line 2")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert texts(url) == ["from the handler", "line 1", "odd", "from the handler", "from the handler", "line 2"]
    assert stream.getvalue().count("from the handler") == 3


def test_pytest_still_captures(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    with init(dir=url, id="r", **OFF):
        print("seen by capfd")
        os.write(1, b"not written through Python\n")
        assert capfd.readouterr().out == "seen by capfd\nnot written through Python\n"
    assert texts(url) == ["seen by capfd"]


HEAD = "import os, sys, rewind_logger\nrun = rewind_logger.init(project='p', id='r')\n"


def script(code: str, folder: Path, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script, with its streams as a shell gives them."""
    (folder / "script.py").write_text(code)
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} script.py {shell}"],
        cwd=folder,
        env={**os.environ, "REWIND_LOGGER_QUIET": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("shell", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_a_process_without_streams_trains_all_the_same(tmp_path: Path, shell: str) -> None:
    done = script(HEAD + "print('hello')\nrun.log({'a': 1})\nrun.finish()\nopen('done', 'w').close()", tmp_path, shell)
    assert (tmp_path / "done").exists(), done.stderr
    assert texts(str(tmp_path / "rewind_logs")) == ([] if "1>&-" in shell else ["hello"])


def test_a_traceback_at_the_end_is_recorded(tmp_path: Path) -> None:
    done = script(HEAD + "print('so far')\nrun.log({'a': 1})\nraise ValueError('boom')", tmp_path)
    found = texts(str(tmp_path / "rewind_logs"))
    assert (found[0], found[1], found[-1]) == ("so far", "Traceback (most recent call last):", "ValueError: boom")
    assert done.stderr.splitlines() == found[1:]
    assert done.stdout == "so far\n"


def test_a_kill_loses_no_finished_line(tmp_path: Path) -> None:
    code = HEAD + "for i in range(1000): print('line', i)\nprint('and a', end='', flush=True)\n"
    done = script(code + "print('', flush=True)\nos.kill(os.getpid(), 9)", tmp_path)
    assert "line 999" in done.stdout
    url = str(tmp_path / "rewind_logs")
    with init(dir=url, id="r", resume="must", **OFF):
        pass
    assert texts(url) == [*[f"line {i}" for i in range(1000)], "and a"]


UNFINISHED = HEAD.replace("'r')", "'r', system_metrics=False)") + (
    """
append = run._append

def record(stream, values, *rest):
    append(stream, values, *rest)
    if values.get("stderr") == "bar 50%":
        print("recorded", flush=True)

run._append = record
sys.stderr.write("bar 10%")
sys.stderr.write("\\rbar 50%")
input()
"""
)


def test_a_line_without_an_end_is_recorded_by_itself(tmp_path: Path) -> None:
    with running(UNFINISHED, tmp_path, REWIND_LOGGER_QUIET="1") as process:
        process.hear("recorded")
        process.kill()
    url = str(tmp_path / "rewind_logs")
    with init(dir=url, id="r", resume="must", **OFF):
        pass
    assert "bar 50%" in texts(url)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_prints_and_records_nothing(tmp_path: Path) -> None:
    code = HEAD + (
        "import warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n"
        "print('parent', flush=True)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    assert 'write' not in vars(sys.stdout)\n"
        "    print('child', flush=True)\n"
        "    own = rewind_logger.init(project='p', id='s')\n"
        "    print('its own', flush=True)\n"
        "    own.finish()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "print('parent again')\n"
    )
    done = script(code, tmp_path)
    assert done.stdout == "parent\nchild\nits own\nparent again\n"
    assert done.stderr == ""
    url = str(tmp_path / "rewind_logs")
    assert texts(url) == ["parent", "parent again"]
    assert texts(url, "p/s") == ["its own"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_before_the_run_is_opened_leaves_its_streams_alone(tmp_path: Path) -> None:
    """As the workers of a loader are, which a Trainer starts before it trains."""
    code = (
        "import os, sys, warnings\n"
        "from rewind_logger.sdk.run import Run\n"
        "from rewind_logger.sdk.run_spec import RunSpec\n"
        "from rewind_logger.storage import open_storage\n"
        "from rewind_logger.types import RunRef\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "run = Run(RunSpec(storage=open_storage('store'), run=RunRef('p', 'r'), console=True))\n"
        "run._companions.prepare()\n"
        "assert 'write' in vars(sys.stdout)\n"
        "if os.fork() == 0:\n"
        "    os._exit('write' in vars(sys.stdout))\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    done = script(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
