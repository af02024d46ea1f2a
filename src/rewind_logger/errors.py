"""The errors of Rewind Logger.

```
RewindError
├── ConfigError             (ValueError)         an argument, a name or a combination of them is not allowed
├── LogValueError           (TypeError)          a value that was logged is of no kind that can be kept
├── RunNotFoundError        (LookupError)        no run, revision or store of that name
├── ArtifactNotFoundError   (LookupError)        no artifact of that name, version or alias
├── RunExistsError          (ValueError)         the name is taken by another run
├── PositionError           (ValueError)         a step or moment that does not exist, or is none
├── FencedError             (RuntimeError)       another writer has taken the run over
├── CorruptError            (ValueError)         an object of the store does not read as what it should be
├── FormatVersionError      (RuntimeError)       the store was written by a newer version of this package
└── StorageError            (OSError)            the store refused or failed
    └── TransientStorageError                    … in a way that may pass: it was, or can be, tried again
```

Each also inherits the builtin error it refines, so that code which knows nothing of this package can catch it.
"""


class RewindError(Exception):
    """The base of every error that this package raises on purpose."""


class ConfigError(RewindError, ValueError):
    """An argument, a name or a combination of arguments is not allowed."""


class LogValueError(RewindError, TypeError):
    """A value that was logged is of no kind that can be kept; the message names its key."""


class RunNotFoundError(RewindError, LookupError):
    """There is no run, revision or store of that name."""


class ArtifactNotFoundError(RewindError, LookupError):
    """There is no artifact of that name, version or alias."""


class RunExistsError(RewindError, ValueError):
    """The name is taken by another run."""


class PositionError(RewindError, ValueError):
    """A step or moment that does not exist in the run, or is no step at all."""


class FencedError(RewindError, RuntimeError):
    """Another writer has taken the run over; what this one still logged lies in its journal."""


class CorruptError(RewindError, ValueError):
    """An object of the store does not read as what it should be."""


class FormatVersionError(RewindError, RuntimeError):
    """The store was written by a newer version of this package."""


class StorageError(RewindError, OSError):
    """The store refused a request or failed at it."""


class TransientStorageError(StorageError):
    """The store failed in a way that may pass, such as a timeout; the request can be tried again."""
