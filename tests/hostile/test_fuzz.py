"""No decoder of what somebody else may have written raises anything but our errors, whatever it is given.

The first test does what a fuzzer does, without one: it changes what the real encoders wrote. The second has a fuzzer
that looks for inputs which reach new code; `make fuzz` lets it run for longer.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.servers import missing
from tests.figures import count
from tests.hostile.seeds import CORPUS, seeds
from tests.hostile.targets import TARGETS

RUNS = 20_000
"""Executions of the fuzzer for each target."""

TOKENS = (
    b"null", b"true", b"-1", b"1e999", b"NaN", b"Infinity", b"-Infinity", b"[]", b"{}", b'""', b"0", b"9" * 19,
    b"9" * 5_000, b"[" * 2_000, b'{"a":' * 2_000, b'"..\\u0000"', b'"\\ud800"', b'"../../etc/passwd"', b'[[["x"]]]',
    b'"C:\\\\nul"', b'"x"', b"1.5", b"\\u001b[2J", b"\xff\xfe", b"\0",
)  # fmt: skip
"""What somebody puts in the place of a value who means to do harm."""

_VALUE = re.compile(rb'"[^"]*"|-?[0-9.]+|true|false|null|\[[^\[\]]*\]|\{[^{}]*\}')


def changed(data: bytes, chance: random.Random) -> bytes:
    """Change something: a value, if it is text; some bytes; or the size."""
    values = [found.span() for found in _VALUE.finditer(data)]
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        if values and chance.random() < 0.7:
            start, stop = chance.choice(values)
            other = chance.choice(TOKENS) if chance.random() < 0.7 else data[slice(*chance.choice(values))]
            data = data[:start] + other + data[stop:]
            values = [found.span() for found in _VALUE.finditer(data)]
        elif data:
            at = chance.randrange(len(data))
            what = chance.randrange(4)
            if what == 0:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
            elif what == 1:
                data = data[:at] + data[at + chance.randrange(1, 9) :]
            elif what == 2:
                data = data[:at] + chance.choice([b"\0", b"\xff" * 8, b"\x80" * 12, data[at:]]) + data[at:]
            else:
                data = data[:at] + chance.randbytes(chance.randrange(1, 9)) + data[at:]
    return data[: 1 << 16]


def inputs(target: str, number: int) -> Iterator[bytes]:
    """Yield changed examples of a target."""
    chance = random.Random(f"{target}{number}")
    examples = seeds()[target]
    for _ in range(number):
        yield changed(chance.choice(examples), chance)


@pytest.fixture(autouse=True)
def unheard(caplog: pytest.LogCaptureFixture) -> None:
    """What is damaged is named in the log, thousands of times here."""
    caplog.set_level(logging.CRITICAL + 1, "rewind_logger")


def test_every_target_has_examples_that_the_real_encoders_made() -> None:
    assert seeds().keys() == TARGETS.keys()
    assert {path.name for path in CORPUS.iterdir()} == TARGETS.keys()
    for target, examples in seeds().items():
        assert len(list((CORPUS / target).iterdir())) >= len(examples)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("number", [150, pytest.param(5_000, marks=pytest.mark.exhaustive)])
def test_whatever_a_decoder_is_given_it_raises_our_errors_alone(target: str, number: int) -> None:
    for data in inputs(target, number):
        try:
            TARGETS[target](data)
        except BaseException:
            Path(f"hostile-{target}").write_bytes(data)
            raise
    count("fuzz executions", number)


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_found_once_stays_mended(target: str) -> None:
    for path in sorted((CORPUS / target).iterdir()):
        TARGETS[target](path.read_bytes())


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    sys.platform != "linux" or not (3, 11) <= sys.version_info < (3, 14), reason="atheris is not made for this Python"
)
@pytest.mark.parametrize("target", TARGETS)
def test_a_fuzzer_that_looks_for_new_code_finds_nothing(target: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("There is no atheris")
    found = tmp_path / "corpus"
    found.mkdir()
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.hostile.fuzz", target, str(found), str(CORPUS / target)]
    options = [f"-runs={RUNS}", "-max_total_time=20", "-max_len=8192", "-timeout=20", "-rss_limit_mb=4096", "-seed=1"]
    # Not directly: it would take what this process ever had in memory for its own.
    shell = ["/bin/sh", "-c", '"$@"; exit $?', "sh"]
    done = subprocess.run(
        [*shell, *command, *options, f"-artifact_prefix={tmp_path}/"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "src")])},
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    [runs] = re.findall(r"Done (\d+) runs", done.stderr)
    count("fuzz executions", int(runs))
