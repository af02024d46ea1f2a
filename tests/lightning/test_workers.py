"""A run beside processes that others start: multiprocessing, and the workers of a data loader."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from rewind_logger import init, open_store
from tests.figures import count
from tests.sdk.reading import rows
from tests.sdk.scripts import script

WORKERS = """
import sys, warnings
import torch
from torch.utils.data import DataLoader, Dataset
import rewind_logger

class Logs(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, i):
        if {log}:
            rewind_logger.log({{"worker": i}})
            print("from a worker")
        return torch.tensor(float(i))

if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork beside threads
    run = rewind_logger.init(project="p", id="a")
    step = 0
    for epoch in range(2):
        loader = DataLoader(Logs(), batch_size=2, num_workers=2, multiprocessing_context="{method}")
        for batch in loader:
            run.log({{"sum": float(batch.sum())}})
            step += 1
    run.finish()
"""


@pytest.mark.parametrize(
    ("method", "log"),
    [
        ("fork", True),
        pytest.param("fork", False, marks=pytest.mark.exhaustive),
        pytest.param("spawn", False, marks=pytest.mark.exhaustive),
    ],
)
def test_workers_of_a_data_loader_disturb_no_run(method: str, log: bool, tmp_path: Path) -> None:
    """What a forked worker logs is dropped, and it says so; training goes on."""
    path = tmp_path / "train.py"
    path.write_text(WORKERS.format(method=method, log=log))
    done = script(RUN, tmp_path)
    found = [row["sum"] for row in rows(str(tmp_path / "rewind_logs"), "p/a")]
    count("rows checked", 8)
    count("rows lost", 8 - len(found))
    assert found == [1, 5, 9, 13] * 2
    assert ("what is logged here is dropped" in done.stderr) == log
    assert open_store(tmp_path / "rewind_logs").run("p/a").state == "finished"


RUN = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, 'train.py']).returncode)"
"""A spawned process imports the main module, which must be a file."""

STARTS = """
import multiprocessing, sys, warnings
import rewind_logger

def logs(queue):
    try:
        rewind_logger.log({"child": 1})
        queue.put("dropped")
    except Exception as error:
        queue.put(f"{type(error).__name__}: {error}")

def opens(queue):
    with rewind_logger.init(project="p", id=f"child-{multiprocessing.get_start_method()}") as run:
        for i in range(100):
            run.log({"a": i})
    queue.put("logged")

if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    run = rewind_logger.init(project="p", id="a")
    for method in ("fork", "spawn"):
        multiprocessing.set_start_method(method, force=True)
        for work in (logs, opens):
            queue = multiprocessing.Queue()
            process = multiprocessing.Process(target=work, args=(queue,))
            process.start()
            print(method, work.__name__, queue.get(timeout=120), flush=True)
            process.join()
            assert process.exitcode == 0
            run.log({"a": 1})
"""


def test_a_child_logs_to_a_run_of_its_own_and_is_told_where_it_cannot(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(STARTS)
    done = script(RUN, tmp_path)
    told = done.stdout.splitlines()
    assert told[0] == "fork logs dropped" and "what is logged here is dropped" in done.stderr
    assert told[2].startswith("spawn logs ConfigError") and "process that started this one is not open here" in told[2]
    assert (told[1], told[3]) == ("fork opens logged", "spawn opens logged")
    store = str(tmp_path / "rewind_logs")
    for name, expected in (("p/a", [1] * 4), ("p/child-fork", list(range(100))), ("p/child-spawn", list(range(100)))):
        assert [row["a"] for row in rows(store, name) if "a" in row] == expected


def test_a_run_cannot_be_pickled_and_a_copy_is_the_same_run(tmp_path: Path) -> None:
    """A model that holds its run can be copied; where something is tried for being pickled, that is a `TypeError`."""
    model: Any = torch.nn.Linear(1, 1)
    with init(dir=tmp_path, project="p", id="a", config={"lr": 0.1}) as run:
        model.run = run
        run.log({"a": 1})
        assert copy.deepcopy(model).run is copy.copy(run) is run
        with pytest.raises(TypeError, match=r"Run p/a cannot be pickled.* has one writer.* init\(group=\.\.\.\)"):
            pickle.dumps(model)
        assert pickle.loads(pickle.dumps(run.config)) == {"lr": 0.1}
        assert copy.deepcopy(run.summary) == pickle.loads(pickle.dumps(run.summary)) == {"a": 1}
    stored = open_store(tmp_path).run("p/a")
    assert len(pickle.loads(pickle.dumps(stored)).history()) == 1
