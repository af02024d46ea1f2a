"""Words of messages that depend on what they tell of."""

from __future__ import annotations


def kind_of(value: object) -> str:
    """Return what a value is, with its article.

    Example:
        >>> kind_of(5), kind_of({}), kind_of(None)
        ('an int', 'a dict', 'None')
    """
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def counted(number: int, noun: str) -> str:
    """Return a number of things; the plural of `noun` is its singular with an "s".

    Example:
        >>> counted(1, "row"), counted(2000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
