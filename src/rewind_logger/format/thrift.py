"""Thrift's compact protocol, read strictly: what the footer of a Parquet file is written in.

Only as much as it takes to look at a footer before pyarrow does; `footer.check_columns` says why.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Struct: TypeAlias = dict[int, Any]
"""By the number of the field its value: int, bool, bytes, a list of such, or a struct."""

_MAX_DEPTH = 16
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


def read_struct(data: bytes) -> Struct:
    """Return the struct that begins `data`; what follows it is not looked at.

    Raises:
        ValueError: If there is none, a field is given twice, or it is nested too deeply.
        IndexError: If it is cut off.
    """
    return _struct(data, 0, 0)[0]


def _struct(data: bytes, at: int, depth: int) -> tuple[Struct, int]:
    """Return a struct and where it ends."""
    if depth > _MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    fields: Struct = {}
    number = 0
    while head := data[at]:
        at += 1
        kind = head & 15
        if not kind:
            raise ValueError("a field has no type")
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(data, at)
        if number in fields:
            raise ValueError(f"field {number} is given twice")
        if kind <= _FALSE:
            fields[number] = kind == _TRUE
        elif _I16 <= kind <= _I64:
            fields[number], at = _integer(data, at)
        else:
            fields[number], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """Return a value of a kind and where it ends."""
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind == _BINARY:
        size, at = _varint(data, at)
        if at + size > len(data):
            raise IndexError("it is cut off")
        return data[at : at + size], at + size
    if kind in (_LIST, _SET):
        return _list(data, at, depth)
    if kind in (_I16, _I32, _I64):
        return _integer(data, at)
    if kind in (_TRUE, _FALSE, _BYTE):  # within a list, where a bool is a byte
        return data[at], at + 1
    if kind == _DOUBLE:
        return data[at : at + 8], at + 8
    raise ValueError(f"there is no type {kind} in a footer")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    """Return a list and where it ends."""
    if depth > _MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    size, kind, at = data[at] >> 4, data[at] & 15, at + 1
    if size == 15:
        size, at = _varint(data, at)
    if size > len(data) - at:  # each element takes a byte at least
        raise IndexError("it is cut off")
    items = []
    for _ in range(size):
        item, at = _value(data, at, kind, depth + 1)
        items.append(item)
    return items, at


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """Return a signed number and where it ends."""
    number = data[at]
    if number < 128:
        return (number >> 1) ^ -(number & 1), at + 1
    number, at = _varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number without sign and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            if number >= 1 << 64:
                raise ValueError("a number has more than 64 bits")
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
