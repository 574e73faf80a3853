"""The machine: its name, and what it can do at most in multiply-adds and in copied bytes, measured without any library.

The multiply-adds are a loop of a dozen independent vector FMA instructions, put together here as machine code. Where
that is not possible (not x86-64, no executable memory) there is no such peak: the best matrix product stands in for it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

_ACCUMULATORS = 12  # more than latency times issue width, 4 x 2, of any core of today


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def vector_bits() -> int:
    """Bits of the widest vectors with FMA, 0 where there are none or this is no x86-64."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return 0
    flags = next((set(line.split()) for line in _cpuinfo() if line.startswith("flags")), set())
    if "avx512f" in flags:
        return 512
    return 256 if {"avx2", "fma"} <= flags else 0


def pin(threads: int) -> int:
    """Keeps this process and its children on so many of its CPUs; returns how many there are in the end."""
    if not hasattr(os, "sched_setaffinity"):
        return threads
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cpus)
    return len(cpus)


def fma_code(bits: int) -> bytes:
    """void f(int64 n): n times a dozen vfmadd231ps on registers that hold zeros. SysV calling convention."""
    body = b""
    for register in range(_ACCUMULATORS):
        high = (
            0 if register >= 8 else 0x80
        )  # register numbers' upper bits are stored inverted; 15 and 14 are the factors
        operands = bytes([0xB8, 0xC0 | (register & 7) << 3 | 7])
        if bits == 512:
            body += bytes([0x62, high | 0x52, 0x0D, 0x48]) + operands
        else:
            body += bytes([0xC4, high | 0x42, 0x0D]) + operands
    body += b"\x48\xff\xcf"  # dec rdi
    jump = -(len(body) + 6)
    vzeroall, jnz, vzeroupper, ret = b"\xc5\xfc\x77", b"\x0f\x85", b"\xc5\xf8\x77", b"\xc3"
    return vzeroall + body + jnz + jump.to_bytes(4, "little", signed=True) + vzeroupper + ret


def _best_rate(work: Callable[[int], object], amount: float, threads: int, repeats: int) -> float:
    """The best rate of so many threads, all together, that each do such an amount of work, given their number."""
    with ThreadPoolExecutor(threads) as pool:
        best = 0.0
        for _ in range(repeats):
            begin = time.perf_counter()
            for done in [pool.submit(work, i) for i in range(threads)]:
                done.result()
            best = max(best, threads * amount / (time.perf_counter() - begin))
    return best


def fma_peak(threads: int, repeats: int = 20) -> float | None:
    """Floating-point operations a second in float32, a multiply-add as two; None where it cannot be measured."""
    bits = vector_bits()
    if bits == 0:
        return None
    try:
        memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    memory.write(fma_code(bits))
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    loop = ctypes.CFUNCTYPE(None, ctypes.c_int64)(address)  # releases the interpreter's lock
    n = 2_000_000  # some milliseconds: a busy machine leaves that much in one piece now and then
    return _best_rate(lambda _: loop(n), 2.0 * n * _ACCUMULATORS * bits / 32, threads, repeats)


class CopyPeak:
    """Bytes a second, read and written ones together, of copies too large for the caches: measured at each call."""

    def __init__(self, threads: int) -> None:
        self._source = np.random.default_rng(0).integers(0, 255, (threads, 64 << 20), np.uint8)
        self._target = np.ones_like(self._source)

    def __call__(self, repeats: int = 7) -> float:
        threads, size = self._source.shape
        return _best_rate(lambda i: np.copyto(self._target[i], self._source[i]), 2.0 * size, threads, repeats)
