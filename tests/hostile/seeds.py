"""First examples for each target, made by the real encoders: `python -m tests.hostile.seeds` writes them anew."""

from __future__ import annotations

import json
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pyarrow as pa

from rewind_logger.format import documents, frames, manifest, segment, snapshot
from rewind_logger.format.aggregates import of_rows
from rewind_logger.format.documents import (
    Alive,
    Base,
    Claim,
    End,
    Evaluation,
    Merge,
    Recovery,
    Removal,
    Source,
    Trim,
)
from rewind_logger.format.footer import read_footer
from rewind_logger.format.snapshot import Snapshot
from rewind_logger.types import Entry, RevisionRecord, Row, RunRef
from tests.hostile.targets import FOLDER, NAMES_IN_ROWS, NONCE, RUN

CORPUS = Path(__file__).with_name("corpus")

DIGEST = "9f" * 32
MS = 1_763_888_888_888

ROWS = [
    Row(i, i, 3 * i if i % 2 else None, MS + i, {"loss": 1 / (i + 1), "phase": "train", "n": 2**60 + i})
    for i in range(5)
]

VALUES: dict[str, Any] = {
    "config": {"lr": 0.1, "nested": {"a": [1, None, True]}},
    "name": "first",
    "tags": ["a", "b"],
    "notes": "some",
    "group": "g",
    "job_type": "train",
    "opened": {
        "run": "p/a",
        "revision": 1,
        "term": 0,
        "kind": "new",
        "reason": "",
        "start": 0,
        "started_ms": MS,
        "command": ["train.py"],
    },
    "environment": {"term": 0, "sha256": DIGEST, "size": 10},
    "metric": {"name": "loss*", "summary": ["min", "last"], "step_metric": "epoch", "goal": "minimize"},
    "summary": {"set": {"best": {"_float": "nan"}}, "removed": ["worst"]},
    "mark": {"nonce": NONCE, "next_step": 5, "path": "./p/a/checkpoints/last.ckpt", "score": 0.5},
    "path": {"nonce": NONCE, "path": "s3://bucket/last.ckpt"},
    "logged": {
        "name": "model",
        "type": "model",
        "manifest": {"sha256": DIGEST, "size": 9},
        "size": 4,
        "files": 1,
        "aliases": ["best"],
        "metadata": {},
        "run": "p/a",
        "revision": 1,
    },
    "aliases": {"name": "model", "version": 0, "manifest": {"sha256": DIGEST}, "add": ["x"], "remove": ["best"]},
    "used": {
        "name": "data",
        "type": "dataset",
        "manifest": {"sha256": DIGEST, "size": 9},
        "size": 4,
        "files": 1,
        "version": 3,
        "store": "s3://bucket/x",
    },
}

MEDIA: list[Any] = [
    {"type": "image", "sha256": DIGEST, "size": 10, "format": "png", "width": 2, "height": 2, "caption": "c"},
    [{"type": "histogram", "counts": [1, 2], "min": 0.0, "max": 1.0, "left_out": 0}],
    {"type": "histogram", "counts": [1, 2], "edges": [0, 1, 5]},
    {"type": "text", "text": "hello"},
    {
        "type": "table",
        "sha256": DIGEST,
        "size": 9,
        "format": "parquet",
        "rows": 1,
        "columns": 2,
        "media_columns": ["picture"],
    },
    {"type": "audio", "sha256": DIGEST, "size": 9, "format": "wav", "sample_rate": 8000, "duration": 1.0},
]

MARK = {
    "nonce": NONCE,
    "store": "s3://bucket/x",
    "project": "p",
    "run_id": "a",
    "revision": 1,
    "claim": 0,
    "claim_nonce": NONCE,
    "next_step": 500,
    "row_pending": True,
    "opened": True,
    "counted": False,
}


def seeds() -> dict[str, list[bytes]]:
    """Return the examples of each target."""
    entry = Entry(FOLDER, {"metrics": 3, "events": 0}, 5)
    plan = {FOLDER: {"metrics": [("000000000-000000003_0_4.parquet", 1234)]}}
    revisions = (
        RevisionRecord(1, None, None, MS, "", FOLDER, {"metrics": 3}),
        RevisionRecord(2, ("p/a", 1), 5, MS, "resume_from='a?_step=4'"),
    )
    base = Base(
        number=1,
        nonce=NONCE,
        revision=2,
        start=5,
        newest_clock=4,
        lineage=(entry,),
        plan=plan,
        revisions=revisions,
        recovery=Recovery(nonce=NONCE, first={"metrics": 2}, start=4),
        created_ms=MS,
    )
    claim = Claim(
        nonce=NONCE,
        kind="forked",
        created_ms=MS,
        host="node7",
        pid=17,
        reason="x",
        source=Source(run="p/b", revision=1, cut=5, store="s3://bucket/x"),
    )
    data = segment.encode(ROWS, stream="metrics", first=0, last=0, term=NONCE)
    table = of_rows(ROWS)
    payloads = [
        frames.encode_header({"flush": {"metrics": 0}}),
        frames.encode_row(0, 0, 1, None, MS, {"loss": 0.5, "phase": "train", "n": 3, "b": True}),
        frames.encode_keys(0, ["loss", "acc"]),
        frames.encode_row(0, 1, None, 7, MS, [0.5, float("nan")]),
    ]
    entries = {
        "data/train.csv": manifest.Entry(sha256=DIGEST, size=12),
        "raw.csv": manifest.Entry(reference="s3://bucket/raw.csv", size=5, checksum="etag:x"),
    }
    held = {"version": 1, "marks": [MARK]}
    loop = {
        "epoch": 1,
        "global_step": 10,
        "loops": {"fit_loop": {"epoch_loop.state_dict": {"_batches_that_stepped": 10}}},
    }
    return {
        "claim": [documents.encode_claim(claim)],
        "base": [documents.encode_base(base, RUN)],
        "merge": [documents.encode_merge(Merge(nonce=NONCE, lineage=(entry,), plan=plan), RUN)],
        "end": [documents.encode_end(End(nonce=NONCE, state="finished", next_step=5, ended_ms=MS))],
        "alive": [documents.encode_alive(Alive(nonce=NONCE, at_ms=MS))],
        "removal": [documents.encode_removal(Removal(run=RUN, at_ms=MS, host="node7"))],
        "trim": [documents.encode_trim(Trim(folder=FOLDER, cut=5))],
        "pin": [documents.encode_pin(RunRef("p", "b"), RUN, NONCE)],
        "evaluation": [
            documents.encode_evaluation(
                Evaluation(
                    run=RUN,
                    nonce=NONCE,
                    kind="test",
                    revision=1,
                    next_step=5,
                    checkpoint="last.ckpt",
                    created_ms=MS,
                )
            )
        ],
        "segment": [data],
        "snapshot": [snapshot.encode(Snapshot(flush=0, last_row=4, newest_clock=4, aggregates=table, term=NONCE))],
        "footer": [read_footer(pa.BufferReader(data))],
        "journal": [
            b"".join(struct.pack("<H", len(payload)) + payload for payload in payloads),
            b"".join(map(frames.frame, payloads)),
        ],
        "names": [
            text.encode()
            for text in (
                "000000000-000000063_-1_1999.parquet",
                "000000063_1999.parquet",
                "00000007.json",
                "./t/00000000-9f",
                "team/digits/r1@2?_step=499",
                "model:v3",
                "a/../b",
                "C:NUL.txt",
                "a\\b/\x1b[2J",
                "é/É. ",
            )
        ],
        "manifest": [manifest.encode(entries)],
        "events": [bytes([index]) + json.dumps(VALUES[name]).encode() for index, name in enumerate(NAMES_IN_ROWS)],
        "media": [json.dumps(one).encode() for one in MEDIA],
        "console": [b"epoch 1 \x1b[32mok\x1b[0m", bytes(8)],
        "environment": [
            json.dumps(
                {
                    "packages": {"torch": "2.13"},
                    "git": {"commit": "9f", "branch": "main", "remote": None, "dirty": False},
                    "hardware": {"cpu": "x", "cpu_count": 2, "gpus": []},
                }
            ).encode()
        ],
        "mark": [json.dumps(held).encode(), json.dumps({"rewind_logger": held}).encode(), json.dumps(loop).encode()],
        "index": [
            pickle.dumps({"rewind_logger": held, **loop, "state": OrderedDict(a=1)}, protocol=2),
            pickle.dumps({"pytorch-lightning_version": "2.6.6", **loop}, protocol=4),
        ],
    }


def write() -> None:
    """Write them into the corpus."""
    for target, examples in seeds().items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for index, data in enumerate(examples):
            (folder / f"{index}").write_bytes(data)


if __name__ == "__main__":
    write()
