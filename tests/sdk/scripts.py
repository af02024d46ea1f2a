"""Users' scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def script(code: str, folder: Path, *, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a user's script in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0 or not check, done.stderr
    return done
