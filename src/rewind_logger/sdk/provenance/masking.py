"""Masks: what a process says of itself, without what looks like a secret."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Sequence

from rewind_logger.storage.redact import redact

HIDDEN = "…"

MAX_CHARACTERS = 4096
"""Of one argument: `python -c` takes whole programs, and a sweep may pass its configuration as text."""

MIN_SECRET = 8
"""Characters of a secret in the environment that is hidden wherever it occurs; to hide "true" would help nobody."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS = frozenset(
    {"token", "secret", "secrets", "password", "passwd", "passphrase", "pwd", "pat"}
    | {"credential", "credentials", "apikey", "auth", "authorization", "bearer", "sas", "signature"}
)
_KEYS = frozenset({"api", "access", "secret", "private", "account", "auth", "signing", "encryption", "ssh"})
"""Before "key" they make it a secret; a metric may well be called a key."""

_OPTION = re.compile(r"--?[A-Za-z][\w.-]*|/[A-Za-z][\w-]*")
_ASSIGNED = re.compile(r"([\w.+-]+)(['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s'\",;&)}\]]+)")
_SCHEME = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+@")
_SHAPED = re.compile(
    r"\b(?:gh[oprsu]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_\w{20,}|sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+)"
)
"""What well-known services hand out as keys and tokens."""


def command_line() -> list[str]:
    """Return how this process was called, masked; empty where that is not known, as in an embedded interpreter."""
    return masked(getattr(sys, "orig_argv", None) or getattr(sys, "argv", None) or [])


def masked(arguments: Sequence[str]) -> list[str]:
    """Return arguments without the values of those that are called like a secret, and without credentials in URLs.

    It errs towards hiding: `--pad_token '<pad>'` is hidden too.

    Example:
        >>> masked(["train.py", "--lr=0.1", "--api-key=abc", "--password", "xyz"])
        ['train.py', '--lr=0.1', '--api-key=…', '--password', '…']
    """
    shown = []
    hide_next = False
    for argument in arguments:
        if hide_next and not argument.startswith("--"):
            shown.append(HIDDEN)
            hide_next = False
            continue
        hide_next = _OPTION.fullmatch(argument) is not None and _is_secret(argument)
        shown.append(masked_text(argument[:MAX_CHARACTERS]) + (HIDDEN if len(argument) > MAX_CHARACTERS else ""))
    return shown


def masked_text(text: str) -> str:
    """Return a text without credentials in URLs, known secrets, and what is assigned to secret names."""
    text = without_secrets(_SCHEME.sub(rf"\1 {HIDDEN}", text))
    text = _ASSIGNED.sub(lambda found: found[1] + found[2] + (HIDDEN if _is_secret(found[1]) else found[3]), text)
    return redact(text, frozenset())


def without_secrets(text: str) -> str:
    """Return a text without tokens of well-known shapes, passwords in URLs and secrets of this process's environment.

    What is only called like a secret stays: of the difference of a program too much would be hidden.
    """
    for secret in sorted(_secrets_of_environment(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _SHAPED.sub(HIDDEN, _PASSWORD.sub(f"{HIDDEN}@", text))


def _secrets_of_environment() -> set[str]:
    """Return the values of environment variables that are called like a secret, but for those that are common words."""
    return {value for name, value in os.environ.items() if len(value) >= MIN_SECRET and _is_secret(name)}


def _is_secret(name: str) -> bool:
    """Tell whether what has this name is better not shown: by its words, as in `--hf-token` or `apiKey`."""
    words = [word.lower() for word in _WORD.findall(name)]
    return not _SECRET_WORDS.isdisjoint(words) or any(
        word in ("key", "keys") and before in _KEYS for before, word in itertools.pairwise(words)
    )
