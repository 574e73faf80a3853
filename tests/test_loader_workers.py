"""DataLoader with worker processes: the same batches, errors that say where, no process left behind, no hang."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy as np
import pytest

import pydl
from pydl.data import DataLoader, Dataset, FunctionDataset
from pydl.data.workers import _get

pytestmark = pytest.mark.skipif(os.name != "posix", reason="fork and signals")


class Rows(Dataset):
    """Importable, so that it can be spawned."""

    def __init__(self, n: int, wrong: int = -1) -> None:
        self.n = n
        self.wrong = wrong

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        if index == self.wrong:
            raise KeyError(f"no row {index}")
        return np.full((3, 2), index, np.float32), index


class Draws(Dataset):
    """Samples that use the global generators."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        import random

        return float(index), random.random(), np.random.rand(), pydl.rand(()).item()


class Noise:
    """A transform: adds what the keys give."""

    def apply(self, batch: Any, keys: Any) -> Any:
        x, *rest = batch
        return (x + pydl.asarray(keys.uniform("noise")).reshape(-1, 1, 1), *rest)


def epochs(loader: DataLoader, n: int = 2) -> list[list[bytes]]:
    """The bytes of all batches."""
    return [[b"".join(t.numpy().tobytes() for t in batch) for batch in loader] for _ in range(n)]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_gone(pids: list[int], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("prefetch", [1, 3])
def test_same_bytes_for_any_number_of_workers(workers: int, prefetch: int) -> None:
    data = Rows(23)
    reference = epochs(DataLoader(data, 4, shuffle=True, seed=1))
    loader = DataLoader(data, 4, shuffle=True, seed=1, num_workers=workers, prefetch=prefetch, context="fork")
    assert epochs(loader) == reference


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_same_bytes_from_spawned_workers(context: str) -> None:
    loader = DataLoader(Rows(9), 4, shuffle=True, num_workers=2, context=context, persistent_workers=True)
    assert epochs(loader) == epochs(DataLoader(Rows(9), 4, shuffle=True))


def test_same_bytes_with_a_transform() -> None:
    pytest.importorskip("pydl.data.keys")
    reference = epochs(DataLoader(Rows(9), 4, shuffle=True, transform=Noise()))
    for workers in (1, 2):
        loader = DataLoader(Rows(9), 4, shuffle=True, transform=Noise(), num_workers=workers, context="fork")
        assert epochs(loader) == reference


def test_global_generators_do_not_depend_on_the_worker() -> None:
    first = epochs(DataLoader(Draws(), 3, num_workers=1, context="fork"))
    assert epochs(DataLoader(Draws(), 3, num_workers=3, context="fork")) == first
    assert len(set(first[0] + first[1])) == 8


def test_any_structure_and_size_comes_back() -> None:
    def collate(samples: list[Any]) -> Any:
        n = len(samples)
        large = np.arange(100_000 * n, dtype=np.float64)
        return {
            "large": large,
            "half": pydl.ones((n, 2), dtype=pydl.bfloat16),
            "names": ["a"] * n,
            "empty": pydl.zeros((0, 3)),
            "view": pydl.asarray(large.reshape(-1, 10))[::2, ::-1],
            "flag": pydl.asarray([True, False]),
        }

    loader = DataLoader(Rows(7), 3, collate_fn=collate, num_workers=2, context="fork")
    here = list(DataLoader(Rows(7), 3, collate_fn=collate))
    for ours, expected in zip(loader, here, strict=True):
        assert ours["names"] == expected["names"]
        assert type(ours["large"]) is np.ndarray
        assert (ours["large"] == expected["large"]).all()
        for name in ("half", "empty", "view", "flag"):
            assert ours[name].dtype == expected[name].dtype
            assert ours[name].double().tolist() == expected[name].double().tolist()


def test_batches_are_the_callers_own() -> None:
    """A batch that is kept does not change when its shared memory is used again."""
    kept = list(DataLoader(Rows(40), 2, num_workers=1, prefetch=1, context="fork"))
    assert [y.tolist() for _, y in kept] == [[i, i + 1] for i in range(0, 40, 2)]
    assert all((x.numpy() == y.numpy()[:, None, None]).all() for x, y in kept)


@pytest.mark.parametrize("read", [0, 2, 5])
def test_position_counts_what_was_handed_out(read: int) -> None:
    whole = list(DataLoader(Rows(20), 4, shuffle=True))
    loader = DataLoader(Rows(20), 4, shuffle=True, num_workers=2, prefetch=2, context="fork")
    batches = iter(loader)
    for _ in range(read):
        next(batches)
    state = loader.state_dict()
    assert state["batch"] == read
    other = DataLoader(Rows(20), 4, shuffle=True, num_workers=3, context="fork")
    other.load_state_dict(state)
    assert [y.tolist() for _, y in other] == [y.tolist() for _, y in whole[read:]]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_an_error_names_the_sample(context: str) -> None:
    loader = DataLoader(Rows(10, wrong=6), 2, num_workers=2, context=context)
    with pytest.raises(KeyError) as raised:
        list(loader)
    message = str(raised.value)
    assert "sample 6, batch 3" in message
    assert "no row 6" in message
    assert "in __getitem__" in message
    assert raised.value.sample_index == 6  # type: ignore[attr-defined]
    assert isinstance(raised.value.__cause__, KeyError)


def test_an_error_of_a_whole_batch_names_its_samples() -> None:
    loader = DataLoader(Rows(4), 2, num_workers=1, context="fork", collate_fn=lambda samples: samples[0][5])
    with pytest.raises(IndexError, match=r"in worker 0, batch 0, samples 0, 1:"):
        list(loader)


class OddError(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def test_an_error_that_cannot_be_made_again() -> None:
    def fail(index: int) -> int:
        raise OddError(index, 2)

    with pytest.raises(RuntimeError, match=r"OddError: 0 and 2"):
        list(DataLoader(FunctionDataset(fail, 3), num_workers=1, context="fork"))


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("way", ["kill", "exit"])
def test_a_killed_worker_is_an_error(way: str, wait: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with the batch that it was making, also where it was dead when it was told to make another."""
    if wait:
        monkeypatch.setattr("pydl.data.workers._get", lambda *place: (time.sleep(0.3), _get(*place))[1])

    def end(index: int) -> int:
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL) if way == "kill" else os._exit(3)
        return index

    loader = DataLoader(FunctionDataset(end, 12), 2, num_workers=2, context="fork")
    with pytest.raises(RuntimeError, match="SIGKILL" if way == "kill" else "exit code 3") as raised:
        list(loader)
    assert "worker 0" in str(raised.value)
    assert "batch 2, samples 4, 5" in str(raised.value)


def test_a_worker_that_is_killed_between_epochs_of_persistent_workers() -> None:
    loader = DataLoader(Rows(8), 2, num_workers=2, context="fork", persistent_workers=True)
    list(loader)
    pids = [p.pid for p in loader._pool.processes]
    list(loader)
    assert [p.pid for p in loader._pool.processes] == pids
    os.kill(pids[1], signal.SIGKILL)
    assert wait_gone(pids[1:])
    with pytest.raises(RuntimeError, match=r"worker 1 .*SIGKILL"):
        list(loader)
    assert len(list(loader)) == 4  # the next epoch has new workers


def test_what_cannot_be_sent_is_said() -> None:
    with pytest.raises(TypeError, match=r"can't be sent to a worker .*context='fork'"):
        list(DataLoader(FunctionDataset(lambda i: i, 3), num_workers=1, context="spawn"))


def test_timeout() -> None:
    loader = DataLoader(FunctionDataset(lambda i: time.sleep(30), 3), num_workers=1, context="fork", timeout=0.2)
    with pytest.raises(TimeoutError, match=r"no batch 0 within 0\.2 s"):
        list(loader)


def test_workers_end_with_the_epoch_and_with_the_loader() -> None:
    def children() -> list[int]:
        path = pathlib.Path(f"/proc/self/task/{os.getpid()}/children")
        return [int(pid) for pid in path.read_text().split()]

    before = set(children())
    files = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        loader = DataLoader(Rows(8), 2, num_workers=2, context="fork")
        list(loader)
        for _ in loader:
            break
        loader = DataLoader(Rows(8), 2, num_workers=2, context="fork", persistent_workers=True)
        list(loader)
    del loader
    assert set(children()) <= before
    assert len(os.listdir("/proc/self/fd")) <= files + 1


def test_worker_info_and_init_function() -> None:
    def note(number: int) -> None:
        os.environ["PYDL_TEST_WORKER"] = str(number)

    def ask(index: int) -> Any:
        info = pydl.data.get_worker_info()
        return index, info.id, info.num_workers, int(os.environ["PYDL_TEST_WORKER"]), pydl.get_num_threads()

    rows = [list(t) for b in DataLoader(FunctionDataset(ask, 4), 1, num_workers=2, worker_init_fn=note) for t in [b]]
    assert [[t.item() for t in row] for row in rows] == [
        [0, 0, 2, 0, 1],
        [1, 1, 2, 1, 1],
        [2, 0, 2, 0, 1],
        [3, 1, 2, 1, 1],
    ]
    assert pydl.data.get_worker_info() is None
    assert "PYDL_TEST_WORKER" not in os.environ


def test_fork_after_training() -> None:
    """The thread pool has run in this process; the workers use tensors all the same."""
    x = pydl.randn((300, 300))
    (x @ x).sum()

    def multiply(index: int) -> Any:
        return (pydl.ones((200, 200)) @ pydl.ones((200, 200)))[0, 0].item() + index

    (batch,) = list(DataLoader(FunctionDataset(multiply, 4), num_workers=2, context="fork"))
    assert batch.tolist() == [200, 201, 202, 203]


def test_workers_of_a_loader_in_another_thread() -> None:
    found: list[Any] = []
    loader = DataLoader(Rows(8), 3, num_workers=2, context="fork")
    thread = threading.Thread(target=lambda: found.extend(epochs(loader, 1)))
    thread.start()
    thread.join(60)
    assert found == epochs(DataLoader(Rows(8), 3), 1)


def test_a_batch_that_cannot_be_sent() -> None:
    loader = DataLoader(Rows(4), 2, num_workers=1, context="fork", collate_fn=lambda samples: (s for s in samples))
    with pytest.raises(TypeError, match="generator"):
        list(loader)


PROGRAM = """
import os, sys, time
import numpy as np
import pydl
from pydl.data import DataLoader, FunctionDataset

def sample(index):
    time.sleep(0.01 if index < 8 else 60)  # read ahead, the workers are soon in the middle of something long
    return np.ones(1000) * index

if __name__ == "__main__":
    loader = DataLoader(FunctionDataset(sample, 100000), 4, num_workers=2, context=sys.argv[1], persistent_workers=True)
    batches = iter(loader)
    next(batches)
    import multiprocessing
    print(*[p.pid for p in multiprocessing.active_children()], flush=True)
    {then}
"""


def start(tmp_path: pathlib.Path, context: str, then: str) -> tuple[subprocess.Popen[str], list[int]]:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM).replace("{then}", then))
    process = subprocess.Popen(
        [sys.executable, str(path), context],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    return process, pids


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_the_interpreter_exits_with_live_workers(tmp_path: pathlib.Path, context: str) -> None:
    process, pids = start(tmp_path, context, "pass")
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert wait_gone(pids)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_die_with_their_parent(tmp_path: pathlib.Path, context: str) -> None:
    process, pids = start(tmp_path, context, "time.sleep(60)")
    process.kill()
    process.communicate(timeout=30)
    assert wait_gone(pids)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_ctrl_c_is_quiet(tmp_path: pathlib.Path, context: str) -> None:
    process, pids = start(tmp_path, context, "\n    for batch in batches: pass")
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.strip().splitlines()[-1] == "KeyboardInterrupt"
    assert errors.count("Traceback") == 1
    assert wait_gone(pids)
