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

HERE = Path(__file__).parent


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="the folder to write to; emptied first")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=200, help="steps from checkpoint to checkpoint")
    parser.add_argument("--beyond", type=int, default=100, help="steps beyond a checkpoint before the kill")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    url, file = args.out / "store", args.out / "append-only.jsonl"
    store = open_store(url)
    options = f"--steps {args.steps} --every {args.every} --store {url}"
    command = f"{options} --append-only {file}"

    say("1. Train on the handwritten digits of scikit-learn, and kill it with SIGKILL behind a checkpoint.")
    seen = train_and_kill(command, store, args.beyond)
    say(f"   Killed. A reader sees steps 0 to {seen} in the store; what came after is in the journal.")

    say("2. The same command again: it resumes from the last checkpoint.")
    train(command)

    # By now the run has `last.ckpt` several times, a file that was overwritten, and each other checkpoint once.
    saved = [one for one in store.run("digits/a").checkpoints if one.path and not one.path.endswith("last.ckpt")]
    checkpoint = os.path.relpath(next(str(one.path) for one in reversed(saved) if one.next_step < args.steps))
    say("3. A fork from a checkpoint, with another learning rate.")
    train(f"{options} --append-only {args.out / 'append-only-b.jsonl'} --version b --lr 0.01 --fork {checkpoint}")

    say("What happened:\n\n" + table(store))
    lines = len(file.read_text().splitlines())
    say(
        f"\nThe append-only file has {lines} rows for {args.steps} steps: {lines - args.steps} are of a model that is "
        f"gone.\nThe run has {len(store.run('digits/a').history())} rows, one a step."
    )
    image = args.out / "rewind.png"
    picture.draw(store, file, image)
    say(f"\nThe picture: {image}\nRead more: open_store({str(url)!r}).run('digits/a').history().to_pandas()")


def train_and_kill(options: str, store: Store, beyond: int) -> int:
    """Start the training, watch its history as anyone can, and kill it; return the last step that the store shows."""
    training = start(options)
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


def train(options: str) -> None:
    """Run the training to its end."""
    if status := start(options).wait():
        raise SystemExit(f"train.py failed with status {status}")


def start(options: str) -> subprocess.Popen[bytes]:
    """Start the training in a process of its own, and say with which command."""
    say(f"   $ python train.py {options}")
    command = [sys.executable, str(HERE / "train.py"), *shlex.split(options)]
    # One thread: for a network as small as this one more only get in each other's way.
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def table(store: Store) -> str:
    """Return the revisions of both runs as a table."""
    lines = [f"{'revision':10}{'steps':>10}{'rows':>7}{'kept':>7}{'archived':>10}   how it began"]
    for name in ("digits/a", "digits/b"):
        run = store.run(name)
        revisions = run.revisions
        for revision, later in zip(revisions, [*revisions[1:], None], strict=True):
            rows = len(store.run(f"{run.project}/{revision.immutable_id}").history())
            kept = rows if later is None or later.cut is None else min(rows, later.cut)
            how = f"kept steps < {revision.cut} of {revision.parent}" if revision.parent else "new"
            steps = f"0–{store.run(f'{run.project}/{revision.immutable_id}').last_step}"
            lines.append(f"{revision.immutable_id:10}{steps:>10}{rows:>7}{kept:>7}{rows - kept:>10}   {how}")
    return "\n".join(f"   {line}" for line in lines)


def say(text: str) -> None:
    """Print at once, so that lines of this process and of those that train stand in order."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
