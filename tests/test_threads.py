"""Threads of ours and of others: counts, fork, spawn, several Python threads at once, idleness."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import pydl

LINUX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run(program: str, **environment: str) -> str:
    """The program's output; a hang or a signal is a failure."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=100, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout.strip()


def test_thread_count_can_be_set_and_read(threads: None) -> None:
    for count in (1, 2, 3, 8, 1):
        pydl.set_num_threads(count)
        assert pydl.get_num_threads() == count


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2", None, 10**9, 2**70])
def test_impossible_thread_counts_raise(wrong: object, threads: None) -> None:
    before = pydl.get_num_threads()
    with pytest.raises((ValueError, TypeError), match=r"\[set_num_threads\]|set_num_threads"):
        pydl.set_num_threads(wrong)
    assert pydl.get_num_threads() == before


def test_environment_sets_the_count() -> None:
    assert run("import pydl; print(pydl.get_num_threads())", PYDL_NUM_THREADS="3") == "3"


@pytest.mark.parametrize("wrong", ["0", "-2", "many", "1.5"])
def test_wrong_environment_is_a_clear_error(wrong: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import pydl; pydl.get_num_threads(); pydl.ones((2,)) + 1"],
        capture_output=True, text=True, timeout=100, env={**os.environ, "PYDL_NUM_THREADS": wrong}, check=False,
    )  # fmt: skip
    assert done.returncode > 0
    last = done.stderr.strip().splitlines()[-1]
    assert "PYDL_NUM_THREADS" in last
    assert wrong in last


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_default_count_respects_affinity() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import pydl; print(pydl.get_num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYDL_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=100, check=True
    )
    assert done.stdout.strip() == "1"


WORK = """
import numpy as np, pydl
pydl.set_num_threads(2)
a = np.random.default_rng(0).normal(size=(700, 700)).astype(np.float32)
x = pydl.asarray(a)
def work():
    w = pydl.asarray(a.copy()).requires_grad_()
    y = pydl.tanh(pydl.matmul(x, w)).sum()
    y.backward()
    return float(y.detach().numpy()), float(w.grad.numpy().sum(dtype=np.float64))
"""


@LINUX
def test_fork_after_use() -> None:
    """The child has none of the parent's worker threads, and must make its own."""
    program = WORK + textwrap.dedent("""
        import os, warnings
        warnings.simplefilter("ignore")
        wanted = work()
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                ok = work() == wanted and pydl.get_num_threads() == 2
                os._exit(0 if ok else 3)
            assert os.waitpid(pid, 0)[1] == 0
            assert work() == wanted
        print("ok")
    """)
    assert run(program) == "ok"


@LINUX
def test_fork_while_another_thread_computes() -> None:
    program = WORK + textwrap.dedent("""
        import os, threading, warnings
        warnings.simplefilter("ignore")
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                work()
        thread = threading.Thread(target=busy)
        thread.start()
        wanted = work()
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if work() == wanted else 3)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        thread.join()
        print("ok")
    """)
    assert run(program) == "ok"


@LINUX
def test_fork_of_a_fork() -> None:
    program = WORK + textwrap.dedent("""
        import os, warnings
        warnings.simplefilter("ignore")
        wanted = work()
        pid = os.fork()
        if pid == 0:
            first = work()
            inner = os.fork()
            if inner == 0:
                os._exit(0 if work() == wanted == first else 3)
            os._exit(os.waitpid(inner, 0)[1])
        assert os.waitpid(pid, 0)[1] == 0
        print("ok")
    """)
    assert run(program) == "ok"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method: str, tmp_path) -> None:
    """A pool that returns tensors, started after use."""
    program = textwrap.dedent("""
        import sys, warnings
        warnings.simplefilter("ignore")
        import multiprocessing, numpy as np, pydl
        def work(k):
            x = pydl.asarray(np.arange(90_000, dtype=np.float32).reshape(300, 300) / 1e4) * k
            return pydl.tanh(pydl.matmul(x, x))
        if __name__ == "__main__":
            wanted = [work(k).numpy().tobytes() for k in range(6)]
            with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
                got = [t.numpy().tobytes() for t in pool.map(work, range(6))]
            assert got == wanted
            print("ok")
    """)
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("needs fork")
    script = tmp_path / "pool.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, str(script), method], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr[-2000:]


def test_several_python_threads_get_the_right_answers(rng: np.random.Generator, threads: None) -> None:
    pydl.set_num_threads(2)
    matrices = [rng.normal(size=(200, 200)).astype(np.float32) for _ in range(6)]

    def compute(a: np.ndarray) -> tuple[bytes, bytes]:
        w = pydl.asarray(a.copy()).requires_grad_()
        y = pydl.nn.functional.softmax(pydl.matmul(w, w), axis=1)
        y.backward(pydl.asarray(a))
        return y.detach().numpy().tobytes(), w.grad.numpy().tobytes()

    wanted = [compute(a) for a in matrices]
    wrong: list[int] = []

    def repeat(k: int) -> None:
        for _ in range(20):
            if compute(matrices[k]) != wanted[k]:
                wrong.append(k)

    workers = [threading.Thread(target=repeat, args=(k,)) for k in range(6)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def test_changing_the_count_while_others_compute(rng: np.random.Generator, threads: None) -> None:
    a = rng.normal(size=(150, 150)).astype(np.float32)
    wanted = pydl.matmul(pydl.asarray(a), pydl.asarray(a)).numpy().tobytes()
    wrong: list[int] = []
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            if pydl.matmul(pydl.asarray(a), pydl.asarray(a)).numpy().tobytes() != wanted:
                wrong.append(1)

    workers = [threading.Thread(target=compute) for _ in range(2)]
    for w in workers:
        w.start()
    for k in range(60):
        pydl.set_num_threads(1 + k % 4)
        time.sleep(0.002)
    stop.set()
    for w in workers:
        w.join()
    assert not wrong


def test_the_gil_is_released_in_kernels(rng: np.random.Generator) -> None:
    """While one thread multiplies large matrices, another keeps counting."""
    a = pydl.asarray(rng.normal(size=(1500, 1500)).astype(np.float32))
    counted = 0
    done = threading.Event()

    def multiply() -> None:
        for _ in range(3):
            pydl.matmul(a, a)
        done.set()

    worker = threading.Thread(target=multiply)
    worker.start()
    while not done.wait(0.0005):
        counted += 1
    worker.join()
    assert counted >= 5


def test_workers_sleep_when_idle(rng: np.random.Generator, threads: None) -> None:
    pydl.set_num_threads(4)
    a = pydl.asarray(rng.normal(size=(400, 400)).astype(np.float32))
    pydl.matmul(a, a)
    time.sleep(0.3)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_first_import_in_a_thread() -> None:
    program = """
        import threading
        values = []
        def first():
            import pydl
            values.append(float((pydl.ones((3,)) * 2).sum().numpy()))
        threads = [threading.Thread(target=first) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        print(values)
    """
    assert run(program) == "[6.0, 6.0, 6.0, 6.0]"


def test_exit_while_a_thread_computes_does_not_hang() -> None:
    program = """
        import threading, pydl
        a = pydl.rand(600, 600)
        def forever():
            while True:
                pydl.matmul(a, a)
        threading.Thread(target=forever, daemon=True).start()
        import time; time.sleep(0.2)
        print("leaving")
    """
    assert run(program) == "leaving"
