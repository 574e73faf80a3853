"""What pydl asks of cuBLASLt, on the emulated device: a library of the same functions multiplies on the host."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import pydl

COMPILER = shutil.which("c++") or shutil.which("g++")

pytestmark = [
    pytest.mark.skipif(not pydl.cuda.is_available() or not pydl.cuda.is_emulated(), reason="no emulated CUDA device"),
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler"),
]

SCRIPT = """
import ctypes, os
import numpy as np
import pydl, pydl.nn.functional as F

fake = ctypes.CDLL(os.environ["PYDL_CUBLASLT"])
rng = np.random.default_rng(0)

def products(function):
    before = fake.fake_products()
    result = function()
    return result, fake.fake_products() - before

def tensor(*shape, dtype):
    return pydl.tensor(rng.normal(size=shape).astype(dtype)).to("cuda")

def close(y, exact, dtype):
    np.testing.assert_allclose(y.cpu().numpy(), exact, rtol=0, atol=2e-5 if dtype == "float32" else 1e-12)

for dtype in ("float32", "float64"):
    for m, n, k in ((1, 1, 3), (5, 7, 11), (1, 6, 4), (6, 1, 4), (33, 2, 65)):
        for turn_a in (False, True):
            for turn_b in (False, True):
                a = tensor(k, m, dtype=dtype).T if turn_a else tensor(m, k, dtype=dtype)
                b = tensor(n, k, dtype=dtype).T if turn_b else tensor(k, n, dtype=dtype)
                y, count = products(lambda: a @ b)
                assert count == 1, (m, n, k)
                close(y, a.cpu().numpy() @ b.cpu().numpy(), dtype)
    a, b, bias = tensor(3, 5, 4, dtype=dtype), tensor(3, 4, 6, dtype=dtype), tensor(6, dtype=dtype)
    y, count = products(lambda: a @ b)
    assert count == 1  # the batch is one call
    close(y, a.cpu().numpy() @ b.cpu().numpy(), dtype)
    weight = tensor(6, 4, dtype=dtype)
    y, count = products(lambda: F.linear(a, weight, bias))
    assert count == 1
    close(y, a.cpu().numpy() @ weight.cpu().numpy().T + bias.cpu().numpy(), dtype)
    wide = tensor(5, 9, dtype=dtype)
    y, count = products(lambda: wide[:, 2:6] @ b[0])  # rows further apart than they are long
    assert count == 1
    close(y, wide.cpu().numpy()[:, 2:6] @ b[0].cpu().numpy(), dtype)
    y, count = products(lambda: wide[:, ::2] @ tensor(5, 3, dtype=dtype))  # no layout of cuBLASLt's
    assert count == 0

choices = fake.fake_choices()
a @ b
assert fake.fake_choices() == choices  # an algorithm is chosen once for each shape
half = a.astype(pydl.float16)
close((half @ b.astype(pydl.float16)).astype(pydl.float64) * 0, np.zeros((3, 5, 6)), "float64")  # refused: pydl's own
x = tensor(2, 3, 5, 5, dtype="float32")
y, count = products(lambda: F.conv2d(x, tensor(4, 3, 1, 1, dtype="float32")))
assert count >= 1  # a pointwise convolution is a product
print("fine", pydl.cuda.why_unavailable())
"""


def test_products_by_a_library_of_that_interface(tmp_path: pathlib.Path) -> None:
    source, library = pathlib.Path(__file__).parent / "fake_cublaslt.cpp", tmp_path / "libfake.so"
    assert COMPILER is not None
    subprocess.run([COMPILER, "-std=c++17", "-O1", "-shared", "-fPIC", source, "-o", library], check=True)
    environment = {**os.environ, "PYDL_CUBLASLT": str(library), "PYDL_EMULATED_GUARD": "0"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fine")
