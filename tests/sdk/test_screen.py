"""What a terminal would show of what is written, line by line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_logger.sdk.console import screen
from rewind_logger.sdk.console.screen import Screen, Stamp

NOW = Stamp(0, 0)


def shown(*writes: str) -> list[str]:
    """The lines that there are after some writes, each as it stood last, an empty one at the end left out."""
    made, lines = Screen(), {}
    for text in writes:
        for state in made.feed(text, NOW):
            lines[state.number] = state.text
    for state in made.changes():
        lines[state.number] = state.text
    return [text for _, text in sorted(lines.items())]


RED, PLAIN = "\x1b[31m", "\x1b[0m"


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ("one\ntwo\n", ["one", "two"]),
        ("\n\nthree\n", ["", "", "three"]),
        ("no end", ["no end"]),
        ("windows\r\nlines\r\n", ["windows", "lines"]),
        ("10%\r20%\r100%\n", ["100%"]),
        ("100% done\r100%\n", ["100% done"]),
        ("at 100\rat 9   \n", ["at 9"]),
        ("trailing  \n", ["trailing  "]),
        ("abc\b\bX\n", ["aXc"]),
        ("long line\r\x1b[Kshort\n", ["short"]),
        ("long line\x1b[2K\rshort\n", ["short"]),
        ("12345\x1b[3D\x1b[1K\n", ["  345"]),
        ("12345\x1b[2G\x1b[K\n", ["1"]),
        ("a\x1b[3Cb\n", ["a   b"]),
        (f"{RED}error{PLAIN}: text\n", [f"{RED}error{PLAIN}: text"]),
        (f"\r{RED}10%{PLAIN}\r{RED}99%{PLAIN}\n", [f"{RED}99%{PLAIN}"]),
        ("one\ntwo\n\x1b[2A\x1b[2Knew\n\n", ["new", "two"]),
        ("one\ntwo\x1b[A\rnew\x1b[B\n", ["new", "two"]),
        ("one\ntwo\nthree\x1b[2F\x1b[J\n", ["", ""]),
        ("\x1b[?25lhidden cursor\x1b[?25h\n", ["hidden cursor"]),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\\n", ["link"]),
        ("\x1b]0;title\x07text\n", ["text"]),
        ("\x1b(Bcharset\x1b7\x1b8\n", ["charset"]),
        ("tab\tbell\a\x00\n", ["tab\tbell"]),
        ("\x1b[999999999999999999A\x1b[99999999999Ctext\n", [" " * 9999 + "text"]),
        ("wide 漢字 and é\n", ["wide 漢字 and é"]),
    ],
)
def test_what_a_line_is(written: str, lines: list[str]) -> None:
    assert shown(written) == lines
    assert shown(*written) == lines, "the same if it comes character by character"


def test_nested_bars_are_a_line_each() -> None:
    writes = ["\router 0%", "\n", "\rinner 0%", "\x1b[A", "\n", "\rinner 50%", "\x1b[A", "\router 50%"]
    assert shown(*writes) == ["outer 50%", "inner 50%"]
    assert shown(*writes, "\n", "\r         ", "\r", "\x1b[A", "\router 100%", "\n") == ["outer 100%"]


def test_a_line_that_is_finished_is_told_once_and_at_once() -> None:
    made = Screen(first=7)
    assert made.feed("one", NOW) == []
    assert made.feed(" line\ntwo", Stamp(3, 5)) == [(7, "one line", (3, 5))]
    assert made.changes() == [(8, "two", (3, 5))]
    assert made.changes() == []
    assert made.feed("\n", NOW) == [(8, "two", NOW)]
    assert not made.changed
    assert made.feed("\x1b[Aup\n", NOW) == [], "it was finished before"
    assert made.changes() == [(8, "upo", NOW)]


def test_what_is_printed_into_a_line_that_was_finished_is_told_at_once() -> None:
    """A bar below another finishes the line of the other with each move of the cursor."""
    made = Screen()
    for text in ("\router 0%", "\n", "\rinner 0%", "\x1b[A"):
        made.feed(text, NOW)
    assert made.feed(" printed", NOW) == []
    assert made.feed("\n", NOW) == [(0, "outer 0% printed", NOW)]
    made.feed("\x1b[A", NOW)
    assert made.feed("\n", NOW) == [], "nothing has changed"


def test_what_is_printed_above_lines_that_are_drawn_anew_is_told_at_once() -> None:
    made = Screen()
    made.feed("a 0%\nb 0%", NOW)
    assert made.feed("\r\x1b[2K\x1b[1A\x1b[2Ka 1%\nb 1%", NOW) == [], "nothing but drawn anew"
    printed = made.feed("\r\x1b[2K\x1b[1A\x1b[2Kone\ntwo\na 1%\nb 1%", NOW)
    assert [(state.number, state.text) for state in printed if state.text in ("one", "two")] == [(0, "one"), (1, "two")]
    assert [state.text for state in made.changes()] == ["b 1%"]


def test_a_line_without_an_end_goes_on_in_the_next() -> None:
    long = "x" * (2 * screen.MAX_LINE + 10)
    assert [len(line) for line in shown(long)] == [screen.MAX_LINE, screen.MAX_LINE, 10]
    assert [len(line) for line in shown("\r", long)] == [screen.MAX_LINE, screen.MAX_LINE, 10]


MANY = 50_000


@pytest.mark.parametrize("endless", ["\x1b[31m", "\x1b]0;", "\x1b[1;", "\r", "\x1b[2K", "x\b"])
def test_what_has_no_end_takes_no_memory(endless: str) -> None:
    made = Screen()
    for _ in range(MANY):
        made.feed(endless, NOW)
    made.changes()
    assert len(made._cut_off + made._colour) <= screen.MAX_ESCAPE
    assert max(len(line.text) for line in made._lines) <= screen.MAX_LINE


def test_lines_that_are_out_of_reach_are_forgotten() -> None:
    made = Screen()
    made.feed("first\n\x1b[Achanged", NOW)
    for number in range(screen.HEIGHT):
        done = made.feed(f"\r\n{number}", NOW)
        if any(state.number == 0 for state in done):
            break
    else:
        pytest.fail("the change of the first line was never told")
    assert done[-1].text == "changed"
    assert len(made._lines) == screen.HEIGHT


@given(st.lists(st.text(st.characters(exclude_characters="\x1b\r\b", exclude_categories=["Cc", "Cs"]) | st.just("\n"))))
def test_plain_text_stays_as_it_is(writes: list[str]) -> None:
    text = "".join(writes)
    assert shown(*writes) == (text.split("\n") if not text.endswith("\n") else text.split("\n")[:-1]) or text == ""


@given(st.lists(st.text("ab \n\r\b\x1b[]0123;AKJmGD\\", max_size=12), max_size=12))
def test_anything_can_be_written(writes: list[str]) -> None:
    for line in shown(*writes):
        assert not re.search(r"[\x00-\x08\x0a-\x1a\x1c-\x1f]|\x1b(?!\[[0-9;:]*m)", line)
