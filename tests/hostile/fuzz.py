"""Coverage-guided fuzzing of one decoder: `python -m tests.hostile.fuzz TARGET [FOLDER …] [libFuzzer's options]`.

`make fuzz` runs each target for a while. An input that breaks something is left in the working directory; what it
broke becomes a test.
"""

from __future__ import annotations

import logging
import sys

import atheris


def main() -> None:
    """Fuzz the target that the command line names."""
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=["rewind_logger"]):
        from tests.hostile.targets import TARGETS
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
