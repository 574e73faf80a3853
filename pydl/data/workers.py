"""Worker processes that read batches ahead, for DataLoader(num_workers=...). Not for anything else.

Batch b is made by worker b mod W, so batches come back in order without a queue between. Each worker has a socket for
orders and short answers, and for each batch that it reads ahead a piece of shared memory without a name: nothing is
left over however a process ends, and neither side can block the other with a long message.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import signal
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pydl import _C
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from pydl.data.loader import DataLoader

__all__ = ["WorkerInfo", "get_worker_info"]

_ALIGN = 64
_LEAST = 1 << 16  # bytes of a slot at first


@dataclass(frozen=True)
class WorkerInfo:
    """What code that runs in a worker can ask: its number, how many there are, the loader's seed and dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a worker of a DataLoader what it is, elsewhere None."""
    return _info


# ---- shared memory


class _Slot:
    """A piece of shared memory without a name, that grows."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._size = 0
        self._map: mmap.mmap | None = None

    def map(self, size: int, grow: bool) -> mmap.mmap:
        """The memory, at least this large."""
        if self._map is None or self._size < size:
            if grow:
                size = max(size + size // 4, _LEAST)
                os.ftruncate(self.fd, size)
            self._map, self._size = mmap.mmap(self.fd, size), size
        return self._map


def _memory_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pydl-batch")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Writer(pickle.Pickler):
    """Pickles a batch for the other process; what arrays hold goes into the slot beside it."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, 5)
        self.arrays: list[np.ndarray[Any, Any]] = []
        self.end = 0

    def persistent_id(self, obj: Any) -> Any:
        is_tensor = type(obj) is Tensor
        if is_tensor:
            if obj.dtype.name == "bfloat16":
                return None
            array = obj.detach().contiguous().numpy()
        elif type(obj) is np.ndarray and obj.dtype.kind in "biufc":
            array = np.ascontiguousarray(obj)
        else:
            return None
        at = self.end
        self.end = at + -(-array.nbytes // _ALIGN) * _ALIGN
        self.arrays.append(array)
        return is_tensor, at, array.dtype.str, obj.shape


class _Reader(pickle.Unpickler):
    """Builds the batch again; arrays are copied out of the slot into buffers that the allocator reuses."""

    def __init__(self, file: io.BytesIO, memory: mmap.mmap) -> None:
        super().__init__(file)
        self._memory = memory

    def persistent_load(self, pid: Any) -> Any:
        is_tensor, at, name, shape = pid
        dtype = np.dtype(name)
        array = np.frombuffer(self._memory, dtype, int(np.prod(shape, dtype=np.int64)), at).reshape(shape)
        if not is_tensor:
            return array.copy()
        out: Tensor = _C.empty(shape, dtype)
        if array.size:
            out.numpy()[...] = array
        return out


def _put(slot: _Slot, value: Any) -> tuple[int, int]:
    file = io.BytesIO()
    writer = _Writer(file)
    writer.dump(value)
    body = file.getbuffer()
    memory = slot.map(writer.end + len(body), grow=True)
    at = 0
    for array in writer.arrays:
        target = np.frombuffer(memory, np.uint8, array.nbytes, at)
        target[:] = array.reshape(-1).view(np.uint8)
        at += -(-array.nbytes // _ALIGN) * _ALIGN
    memory[at : at + len(body)] = body
    return at, len(body)


def _get(slot: _Slot, at: int, length: int) -> Any:
    memory = slot.map(at + length, grow=False)
    return _Reader(io.BytesIO(memory[at : at + length]), memory).load()


# ---- in the worker


@dataclass
class _Job:
    """What a worker needs to know; pickled where workers are spawned."""

    number: int
    workers: int
    parent: int
    dataset: Any
    collate_fn: Callable[[list[Any]], Any] | None
    transform: Any
    seed: int
    worker_init_fn: Callable[[int], Any] | None


def _end_with_parent(parent: int) -> None:
    if os.getppid() != parent:
        parent = os.getppid()  # started by a fork server, which itself ends with the parent
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _seed_for(seed: int, epoch: int, batch: int) -> None:
    """Global generators get the batch's own seed, so that their numbers do not depend on which worker makes it."""
    import random

    from pydl.data.sampler import stream

    key = stream(seed, epoch, f"batch {batch}").initial_seed()
    random.seed(key)
    np.random.seed(key & 0xFFFFFFFF)
    _C.default_generator().manual_seed(key)


def _work(job: _Job, connection: Connection, files: list[Any]) -> None:
    """A worker's life: orders (batch, slot, seed, epoch, indices, times) in, answers (batch, failed, where) out."""
    global _info
    from pydl.data.loader import make_batch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains; it ends the workers
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, args=(job.parent,), daemon=True).start()
    _C.set_num_threads(1)
    _info = WorkerInfo(job.number, job.workers, job.seed, job.dataset)
    slots = [_Slot(file if isinstance(file, int) else file.detach()) for file in files]
    started = job.worker_init_fn is None
    while True:
        try:
            order = connection.recv()
        except (EOFError, OSError):
            return
        batch, slot, seed, epoch, indices, again = order
        try:
            if not started and job.worker_init_fn is not None:
                job.worker_init_fn(job.number)
                started = True
            _seed_for(seed, epoch, batch)
            made = make_batch(job.dataset, indices, job.collate_fn, job.transform, seed, epoch, again)
            answer = (batch, False, *_put(slots[slot], made))
        except Exception as error:
            answer = (batch, True, *_put(slots[slot], _description(error)))
        try:
            connection.send(answer)
        except OSError:
            return


def _description(error: Exception) -> tuple[bytes | None, str, Any]:
    """The error itself where it can be pickled, its traceback, and the sample that raised it."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:
        pickled = None
    return pickled, text, getattr(error, "sample_index", None)


# ---- in the process that trains


class WorkerPool:
    """The workers of one loader, and the epochs that run on them."""

    def __init__(self, loader: DataLoader) -> None:
        import multiprocessing

        context = loader.context
        if context is None or isinstance(context, str):
            context = multiprocessing.get_context(context)
        self.workers, self.prefetch, self.timeout = loader.num_workers, loader.prefetch, loader.timeout
        self.slots = [[_Slot(_memory_file()) for _ in range(self.prefetch)] for _ in range(self.workers)]
        self.connections: list[Connection] = []
        self.processes: list[Any] = []
        self.owner = os.getpid()
        files = [slot.fd for slots in self.slots for slot in slots]
        self.close = weakref.finalize(self, _close, self.processes, self.connections, files, self.owner)
        try:
            for number in range(self.workers):
                self._start(context, number, loader)
        except BaseException:
            self.close()
            raise

    def _start(self, context: Any, number: int, loader: DataLoader) -> None:
        ours, theirs = context.Pipe()
        self.connections.append(ours)
        job = _Job(
            number, self.workers, os.getpid(), loader.dataset, loader.collate_fn, loader.transform, loader.seed,
            loader.worker_init_fn,
        )  # fmt: skip
        files: list[Any] = [slot.fd for slot in self.slots[number]]
        if context.get_start_method() != "fork":
            files = [_Inherited(fd) for fd in files]
        process = context.Process(target=_work, args=(job, theirs, files), daemon=True, name=f"pydl-worker-{number}")
        blocks = hasattr(signal, "pthread_sigmask")
        # A worker is born with Ctrl-C blocked, and ignores it before it looks again.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocks else set()
        try:
            process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"[DataLoader] the dataset, collate_fn or transform can't be sent to a worker ({error}); define classes"
                " and functions at the top level of a module, or use context='fork'"
            ) from error
        finally:
            if blocks:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.processes.append(process)

    @staticmethod
    def epoch(loader: DataLoader, plan: Any, epoch: int, first: int) -> Iterator[Any]:
        """The batches of one epoch from ``first`` on."""
        pool, loader._pool = loader._pool, None  # an epoch that is broken off takes its workers with it
        if pool is not None and not pool.fits(loader):
            pool.close()
            pool = None
        pool = pool or WorkerPool(loader)
        try:
            yield from pool.run(loader, plan, epoch, first)
            if loader.persistent_workers:
                loader._pool, pool = pool, None
        finally:
            if pool is not None:
                pool.close()

    def fits(self, loader: DataLoader) -> bool:
        """Whether the pool can serve the loader as it is now."""
        wanted = (loader.num_workers, loader.prefetch, os.getpid())
        return self.close.alive and (self.workers, self.prefetch, self.owner) == wanted

    def run(self, loader: DataLoader, plan: Any, epoch: int, first: int) -> Iterator[Any]:
        """Orders ahead, and the answers in order."""
        count, ahead = len(plan), self.workers * self.prefetch
        for b in range(first, min(first + ahead, count)):
            self._order(b, loader.seed, epoch, plan)
        for b in range(first, count):
            made = self._answer(b, plan)
            if b + ahead < count:
                self._order(b + ahead, loader.seed, epoch, plan)
            yield made

    def _place(self, b: int) -> tuple[int, int]:
        return b % self.workers, b // self.workers % self.prefetch

    def _order(self, b: int, seed: int, epoch: int, plan: Any) -> None:
        worker, slot = self._place(b)
        with suppress(OSError):  # who has died is noticed at the batch that it was making
            self.connections[worker].send((b, slot, seed, epoch, np.ascontiguousarray(plan[b]), plan.again(b)))

    def _answer(self, b: int, plan: Any) -> Any:
        worker, slot = self._place(b)
        connection = self.connections[worker]
        try:
            if self.timeout > 0 and not connection.poll(self.timeout):
                raise TimeoutError(
                    f"[DataLoader] worker {worker} gave no batch {b} within {self.timeout:g} s (timeout); its samples"
                    f" are {_shown(plan[b])}"
                )
            batch, failed, at, length = connection.recv()
        except (EOFError, ConnectionError):
            self._died(worker, b, plan)
        if batch != b:
            raise RuntimeError(f"[DataLoader] worker {worker} answered batch {batch}, expected {b}")
        made = _get(self.slots[worker][slot], at, length)
        if failed:
            _raise(worker, b, _shown(plan[b]), *made)
        return made

    def _died(self, worker: int, b: int, plan: Any) -> None:
        process = self.processes[worker]
        process.join(5)
        code = process.exitcode
        if code is not None and code < 0:
            how = f"was killed by signal {-code}"
            with_name = {s.value: s.name for s in signal.Signals}.get(-code)
            how += f" ({with_name})" if with_name else ""
            hint = "; out of memory? use fewer workers or smaller batches" if -code == 9 else ""
        else:
            how, hint = f"ended with exit code {code}", ""
            if code == 1:
                hint = "; its error stands above (spawned workers import the main module: if __name__ == '__main__')"
        raise RuntimeError(
            f"[DataLoader] worker {worker} (process {process.pid}) {how} while it made batch {b}, samples"
            f" {_shown(plan[b])}{hint}"
        ) from None


class _Inherited:
    """A file descriptor that goes to a spawned process."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> Any:
        from multiprocessing import reduction

        return _received, (reduction.DupFd(self.fd),)


def _received(duplicate: Any) -> Any:
    return duplicate


def _shown(indices: Any) -> str:
    values = [str(i) for i in indices[:8]]
    return ", ".join(values) + (f", ... ({len(indices)} in all)" if len(indices) > 8 else "")


class _Text(str):
    """A message that KeyError shows with its line breaks."""

    __repr__ = str.__str__


def _raise(worker: int, b: int, samples: str, pickled: bytes | None, text: str, index: int | None) -> None:
    where = f"sample {index}, batch {b}" if index is not None else f"batch {b}, samples {samples}"
    message = f"[DataLoader] in worker {worker}, {where}:\n\n{text}"
    error: BaseException | None = None
    if pickled is not None:
        original = pickle.loads(pickled)
        try:
            error = type(original)(_Text(message))
        except Exception:
            error = RuntimeError(message)
        error.__cause__ = original
    error = error or RuntimeError(message)
    if index is not None:
        error.sample_index = index  # type: ignore[attr-defined]
    raise error


def _close(processes: list[Any], connections: list[Any], files: list[int], owner: int) -> None:
    """Ends the workers; one that resists SIGTERM for two seconds is killed."""
    if os.getpid() != owner:
        return  # a fork of the process that trains has copies of these; the workers are not its own
    for connection in connections:
        connection.close()
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(2)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
    for fd in files:
        os.close(fd)
