"""Watch a run from another process, while it is logged.

Run it with `python 04_read_while_logging.py`. It writes to ./rewind_logs, and starts itself again to log.
"""

from __future__ import annotations

import subprocess
import sys
import time

import rewind_logger
from rewind_logger import RunNotFoundError, open_store


def log() -> None:
    """Log 300 rows in about three seconds."""
    with rewind_logger.init(project="live", id="a") as run:
        for step in range(300):
            run.log({"loss": 1 / (step + 1)})
            time.sleep(0.01)


def watch() -> None:
    """Print how far the run is until it is finished."""
    run = None
    seen = -1
    while run is None or run.state == "running" or run.last_step != seen:
        time.sleep(0.2)
        try:
            run = open_store("rewind_logs").run("live/a")
        except RunNotFoundError:  # it has not begun yet
            continue
        new = run.history("loss", start=seen + 1).to_arrow()
        if len(new):
            seen = new["_step"][-1].as_py()
            print(
                f"{run.state}: {len(new)} new rows, up to step {seen}, where the loss is {new['loss'][-1].as_py():.4f}"
            )


def main() -> None:
    """Watch another process."""
    writer = subprocess.Popen([sys.executable, __file__, "log"])
    try:
        watch()
    finally:
        writer.wait()


if __name__ == "__main__":
    log() if sys.argv[1:] == ["log"] else main()
