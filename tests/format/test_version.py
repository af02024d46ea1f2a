from __future__ import annotations

import pytest

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format.version import FORMAT_VERSION, check_version


def test_every_version_so_far_is_read() -> None:
    assert [check_version(n, "A claim") for n in range(1, FORMAT_VERSION + 1)] == list(range(1, FORMAT_VERSION + 1))


def test_a_newer_one_is_refused_in_one_sentence_that_says_what_to_do() -> None:
    with pytest.raises(FormatVersionError) as caught:
        check_version(FORMAT_VERSION + 1, "The claim digits/r1/m/00000000.json")
    assert str(caught.value) == (
        f"The claim digits/r1/m/00000000.json has format version {FORMAT_VERSION + 1}, and this version of "
        f"rewind-logger reads up to {FORMAT_VERSION}: upgrade it with `pip install -U rewind-logger`."
    )


@pytest.mark.parametrize("found", [None, 0, -1, "1", 1.0, True, [1]])
def test_what_is_no_version_is_corrupt(found: object) -> None:
    with pytest.raises(CorruptError, match="bears no format version"):
        check_version(found, "The claim")
