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

from rewind_logger import Store, open_store

TRAIN = Path(__file__).resolve().with_name("train.py")


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="the folder to write to")
    parser.add_argument("--kill-at", type=int, default=370, help="the step at which the training is killed")
    # Whatever else is given is for train.py, such as --steps 300 --every 100.
    args, options = parser.parse_known_args()
    out: Path = args.out
    begin(out)
    store, file = open_store(out / "rewind_logs"), out / "append-only-a.jsonl"

    say("1. Train on the handwritten digits of scikit-learn, and kill it in the middle of an epoch.\n")
    killed = train_and_kill(out, options, file, args.kill_at)
    say(f"   $ kill -9 {killed}\n")

    say("2. Give the same command again: it resumes from the last checkpoint.\n")
    train(out, options)

    say("\n3. Fork from a checkpoint, with another learning rate.\n")
    # The one before the last: `last.ckpt` is a copy, and from the run's end there would be nothing left to train.
    saved = [one for one in store.run("digits/a").checkpoints if one.path and not one.path.endswith("last.ckpt")]
    checkpoint = os.path.relpath(str(saved[-2].path), out)
    train(out, [*options, "--version", "b", "--lr", "0.01", "--fork", checkpoint])

    say(f"\nWhat is in the store\n\n{table(store)}\n")
    lines, rows = len(file.read_text().splitlines()), len(store.run("digits/a").history())
    say(f"Run a has {rows} rows for its {rows} steps. What was cut off can be read as a@1.")
    say(f"An append-only file has {lines}: {lines - rows} are of a model that is gone.\n")
    image = out / "rewind.png"
    picture.draw(store, file, image)
    say(f"The picture is {image}, the store {out / 'rewind_logs'}: open it with")
    say(f"rewind_logger.open_store({str(out / 'rewind_logs')!r}).run('digits/a').history().to_pandas()")


def begin(out: Path) -> None:
    """Make the folder, without what an earlier demonstration left in it."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "rewind_logs" / "digits", ignore_errors=True)
    for old in (*out.glob("append-only-?.jsonl"), out / "rewind.png"):
        old.unlink(missing_ok=True)


def train_and_kill(out: Path, options: list[str], file: Path, step: int) -> int:
    """Start the training, kill it when the append-only file has reached a step, and return its process id."""
    training = start(out, options)
    try:
        while not file.exists() or file.read_bytes().count(b"\n") <= step:
            if training.poll() is not None:
                raise SystemExit(f"train.py ended by itself, with status {training.returncode}, before it was killed.")
            time.sleep(0.002)
    finally:
        training.kill()
        training.wait()
    return training.pid


def train(out: Path, options: list[str]) -> None:
    """Run the training to its end."""
    if status := start(out, options).wait():
        raise SystemExit(f"train.py failed with status {status}.")


def start(out: Path, options: list[str]) -> subprocess.Popen[bytes]:
    """Start the training in a process of its own, and say with which command."""
    say(f"   $ {shlex.join(['python', 'train.py', *options])}")
    # One thread: for a network as small as this one, more only get in each other's way.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(TRAIN), *options], cwd=out, env=environment)


def table(store: Store) -> str:
    """Return the revisions of both runs as a table."""
    lines = [f"{'revision':<12}{'steps':>7}{'rows':>7}{'kept':>7}{'archived':>11}   began"]
    for name in ("digits/a", "digits/b"):
        revisions = store.run(name).revisions
        for revision, later in zip(revisions, [*revisions[1:], None], strict=True):
            run = store.run(f"digits/{revision.immutable_id}")
            kept = len(run.history(stop=None if later is None else later.cut))
            began = f"with steps 0–{revision.cut - 1} of {revision.parent}" if revision.cut else "as a new run"
            lines.append(
                f"{revision.immutable_id:<12}{f'0–{run.last_step}':>7}{revision.rows:>7}{kept:>7}"
                f"{revision.rows - kept:>11}   {began}"
            )
    return "\n".join(f"   {line}" for line in lines)


def say(text: str) -> None:
    """Print at once, so that lines of this process and of those that train stand in order."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
