"""Train, kill, resume, fork: what becomes of the history, in an append-only file and with Rewind Logger."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import picture

from rewind_logger import RunNotFoundError, Store, open_store

TRAIN = Path(__file__).resolve().with_name("train.py")


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="the folder to write to; emptied first")
    parser.add_argument("--beyond", type=int, default=100, help="steps beyond a checkpoint before the kill")
    # Whatever else is given is for train.py, such as --steps 300 --every 100.
    args, options = parser.parse_known_args()
    out: Path = args.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    store = open_store(out / "rewind_logs")

    say("1. Train on the handwritten digits of scikit-learn, and kill it with SIGKILL behind a checkpoint.")
    seen = train_and_kill(out, options, store, args.beyond)
    say(f"   Killed. In the store are steps 0 to {seen} so far, and what came after is in the run's journal.\n")

    say("2. The same command again resumes from the last checkpoint.")
    train(out, options)
    steps = store.run("digits/a").last_step

    say("\n3. A fork from a checkpoint, with another learning rate.")
    # By now the run has saved `last.ckpt` several times, a file that was overwritten, and each other checkpoint once.
    saved = [one for one in store.run("digits/a").checkpoints if one.path and not one.path.endswith("last.ckpt")]
    checkpoint = next(str(one.path) for one in reversed(saved) if one.next_step <= (steps or 0))
    train(out, [*options, "--version", "b", "--lr", "0.01", "--fork", os.path.relpath(checkpoint, out)])

    say("\nWhat happened\n\n" + table(store))
    file = out / "append-only-a.jsonl"
    lines, rows = len(file.read_text().splitlines()), len(store.run("digits/a").history())
    say(f"\nThe append-only file has {lines} rows for {rows} steps: {lines - rows} are of a model that is gone.")
    say(f"Run a has {rows} rows, one a step, and what was cut off can be read as a@1.")
    image = out / "rewind.png"
    picture.draw(store, file, image)
    say(f"\nThe picture   {image}\nThe store     {out / 'rewind_logs'}")


def train_and_kill(out: Path, options: list[str], store: Store, beyond: int) -> int:
    """Start the training, watch its history as anyone can, and kill it; return the last step that the store shows."""
    training = start(out, options)
    try:
        while (step := last_step_behind_checkpoint(store, beyond)) is None:
            if training.poll() is not None:
                raise SystemExit(f"train.py ended by itself, with status {training.returncode}, before it was killed")
            time.sleep(0.02)
    finally:
        training.kill()
        training.wait()
    return step


def last_step_behind_checkpoint(store: Store, beyond: int) -> int | None:
    """Return the last step that is logged, if it lies `beyond` steps after a checkpoint that is complete."""
    try:
        run = store.run("digits/a")
        step, saved = run.last_step, [one.next_step for one in run.checkpoints if one.path]
    except RunNotFoundError:  # it is not opened yet
        return None
    return step if step is not None and saved and step >= saved[-1] + beyond else None


def train(out: Path, options: list[str]) -> None:
    """Run the training to its end."""
    if status := start(out, options).wait():
        raise SystemExit(f"train.py failed with status {status}")


def start(out: Path, options: list[str]) -> subprocess.Popen[bytes]:
    """Start the training in a process of its own, and say with which command."""
    say(f"   $ {shlex.join(['python', 'train.py', *options])}")
    # One thread: for a network as small as this one, more only get in each other's way.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(TRAIN), *options], cwd=out, env=environment)


def table(store: Store) -> str:
    """Return the revisions of both runs as a table."""
    lines = [f"{'revision':10}{'steps':>10}{'rows kept':>11}{'archived':>10}   began with"]
    for name in ("digits/a", "digits/b"):
        revisions = store.run(name).revisions
        for revision, later in zip(revisions, [*revisions[1:], None], strict=True):
            run = store.run(f"digits/{revision.immutable_id}")
            rows = len(run.history())
            kept = len(run.history(stop=later.cut)) if later is not None else rows
            began = f"steps 0–{revision.cut - 1} of {revision.parent}" if revision.cut else "nothing"
            steps = f"0–{run.last_step}"
            lines.append(f"{revision.immutable_id:10}{steps:>10}{kept:>11}{rows - kept:>10}   {began}")
    return "\n".join(f"   {line}" for line in lines)


def say(text: str) -> None:
    """Print at once, so that lines of this process and of those that train stand in order."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
