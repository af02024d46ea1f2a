"""The version of the store's format, which everything that is written to a store carries."""

from __future__ import annotations

from rewind_logger.errors import CorruptError, FormatVersionError

FORMAT_VERSION = 1
"""What this package writes. It reads this one and every earlier one."""


def check_version(found: object, what: str) -> int:
    """Return the format version of an object, or refuse to read it.

    Args:
        found: What stands in the object as its version.
        what: The object, as the beginning of a sentence: "The claim digits/a/m/00000000.json".

    Returns:
        The version, from 1 to `FORMAT_VERSION` (both inclusive).

    Raises:
        FormatVersionError: If a newer version of this package wrote the object.
        CorruptError: If what was found is no version.
    """
    if type(found) is not int or found < 1:
        raise CorruptError(
            f"{what} bears no format version ({str(found)[:40]!r}): it was not written by Rewind Logger."
        )
    if found > FORMAT_VERSION:
        raise FormatVersionError(
            f"{what} has format version {found}, and this version of rewind-logger reads up to {FORMAT_VERSION}: "
            "upgrade it with `pip install -U rewind-logger`."
        )
    return found
