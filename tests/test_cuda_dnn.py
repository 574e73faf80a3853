"""What pydl asks of cuDNN, on the emulated device: a library of the same functions convolves on the host."""

from __future__ import annotations

import importlib.util
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

PRELUDE = """
import ctypes, os, sys
import numpy as np
sys.path.insert(0, os.environ["TESTS"])
import pydl, pydl.nn.functional as F
from pydl import _C
from test_convolution import correlate
from tolerances import EPS

assert pydl.cuda.is_available()
from pydl import _cuda
fake, emulation = ctypes.CDLL(os.environ["PYDL_CUDNN"]), ctypes.CDLL(_cuda.__file__)
address = lambda function: ctypes.cast(function, ctypes.c_void_p)
fake.fake_connect(address(emulation.pydl_emulated_issue), address(emulation.pydl_emulated_may_allocate))
rng = np.random.default_rng(0)

def runs():
    return [fake.fake_runs(p) for p in range(3)]

def numbers(shape, dtype):
    x = pydl.tensor(rng.normal(size=shape)).astype(getattr(pydl, dtype))
    return x.to("cuda"), x.astype(pydl.float64).numpy()

def close(got, exact, dtype):
    got = got.astype(pydl.float64).cpu().numpy()
    assert got.shape == exact.shape
    error = np.abs(got - exact).max() / max(1.0, np.abs(exact).max())
    assert error <= 4 * EPS[dtype], (error / EPS[dtype], dtype)
"""

VALUES = """
def check(dtype, x_shape, w_shape, wanted=(1, 1, 1), layout=None, **options):
    (x, xe), (w, we), (b, be) = numbers(x_shape, dtype), numbers(w_shape, dtype), numbers(w_shape[:1], dtype)
    if layout is not None:
        x = layout(x)
    for t in (x, w, b):
        t.requires_grad_()
    before = runs()
    y = _C.convolution(len(w_shape) - 2, x, w, b, **options)
    g, ge = numbers(y.shape, dtype)
    y.backward(g)
    assert [n - m for n, m in zip(runs(), before)] == list(wanted), (x_shape, w_shape, options)
    close(y.detach(), correlate(xe, we, **options) + be.reshape(-1, *[1] * (len(w_shape) - 2)), dtype)
    d_x, d_w = correlate(xe, we, d_y=ge, **options)
    close(x.grad, d_x, dtype)
    close(w.grad, d_w, dtype)
    close(b.grad, ge.sum(axis=(0, *range(2, ge.ndim))), dtype)

def last(x):
    return x.permute_dims((0, *range(2, x.ndim), 1)).contiguous().permute_dims((0, x.ndim - 1, *range(1, x.ndim - 1)))

def sliced(x):  # rows of pixels that are further apart than their channels
    wide = pydl.concat([last(x).permute_dims((0, 2, 3, 1))] * 5, axis=3)
    return wide[..., 16 : 16 + x.shape[1]].permute_dims((0, 3, 1, 2))

for dtype in ("float32", "float64", "bfloat16", "float16"):
    check(dtype, (2, 3, 9), (4, 3, 3), padding=1, stride=2)
    check(dtype, (2, 3, 7, 6), (5, 3, 3, 2), padding=(1, 0), stride=(2, 1))
    check(dtype, (1, 4, 7, 9), (6, 4, 3, 3), dilation=(2, 3), padding=(2, 3))
    check(dtype, (2, 18, 5, 5), (20, 9, 3, 3), groups=2, padding=1)
    check(dtype, (2, 3, 4, 5, 6), (4, 3, 2, 3, 3), padding=1, stride=(1, 2, 2))
    check(dtype, (2, 16, 5, 4), (4, 16, 3, 3), padding=1, layout=last)
    check(dtype, (2, 8, 5, 4), (4, 8, 3, 3), padding=1, layout=sliced)
    check(dtype, (2, 3, 5, 5), (4, 3, 1, 1), stride=2)
    check(dtype, (2, 1, 5, 5), (4, 1, 3, 3))
    # What our own kernels do: products, and many narrow groups.
    check(dtype, (2, 3, 5, 5), (4, 3, 1, 1), wanted=(0, 0, 0))
    check(dtype, (2, 8, 5, 5), (8, 1, 3, 3), groups=8, wanted=(0, 0, 0))

    x, xe = numbers((2, 3, 6, 6), dtype)
    w, we = numbers((4, 3, 2, 2), dtype)
    before = runs()
    y = F.conv2d(x, w, padding="same")  # padded behind only
    assert runs() == before
    close(y, correlate(np.pad(xe, [(0, 0), (0, 0), (0, 1), (0, 1)]), we), dtype)

    w, we = numbers((3, 4, 3, 3), dtype)  # transposed: the input's gradient, with a bias
    b, be = numbers((4,), dtype)
    y = F.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=1)
    assert runs() == [before[0], before[1] + 1, before[2]]
    wide, _ = correlate(np.zeros((2, 4, *y.shape[2:])), we, d_y=xe, stride=2, padding=1)
    close(y, wide + be.reshape(-1, 1, 1), dtype)

    w, we = numbers((4, 3, 3, 3), dtype)
    before = runs()
    y = _C.convolution(2, x, w, b, relu=True)
    assert runs()[0] == before[0] + 1
    close(y, np.maximum(correlate(xe, we) + be.reshape(-1, 1, 1), 0), dtype)

x, _ = numbers((2, 3, 6, 6), "float32")
w, _ = numbers((4, 3, 3, 3), "float32")
exact = F.conv2d(x, w)
choices, before = fake.fake_choices(), runs()
assert (F.conv2d(x, w) == exact).all().item()
assert fake.fake_choices() == choices  # chosen once for each shape
offset = pydl.concat([x.reshape(-1)[:1], x.reshape(-1)])[1:].reshape(1, 6, 6, 6).permute_dims((0, 3, 1, 2))
same = F.conv2d(offset, numbers((4, 6, 3, 3), "float32")[0])  # begins between two vectors: our own
assert runs()[0] == before[0] + 1
pydl.cuda.allow_tf32()
fake.fake_tf32(1)
assert (F.conv2d(x, w) == exact).all().item()
assert (runs()[0], fake.fake_choices()) == (before[0] + 2, choices + 1)
fake.fake_tf32(0)
pydl.cuda.allow_tf32(False)
F.conv2d(x, w)
assert fake.fake_choices() == choices + 1

assert pydl.backend.info()["cuda_libraries"][-1] == "convolutions by cuDNN 9.13.2"
print("fine")
"""

REFUSALS = """
CREATE, DESCRIPTORS, CHOICE, NO_GUESS, LARGE, RUN, HUNGRY = range(1, 8)
for what in (CREATE, DESCRIPTORS, CHOICE, NO_GUESS, LARGE, RUN):
    fake.fake_refuse(what)
    x, xe = numbers((1, 3, 5 + what, 5), "float32")
    w, we = numbers((4, 3, 3, 3), "float32")
    for t in (x, w):
        t.requires_grad_()
    g, ge = numbers((1, 4, 3 + what, 3), "float32")
    y = F.conv2d(x, w)
    y.backward(g)
    d_x, d_w = correlate(xe, we, d_y=ge)
    close(y.detach(), correlate(xe, we), "float32")
    close(x.grad, d_x, "float32")
    close(w.grad, d_w, "float32")
    assert runs() == [0, 0, 0]
    choices = fake.fake_choices()
    fake.fake_refuse(0)
    F.conv2d(x, w)  # is not asked again
    assert (runs(), fake.fake_choices()) == ([0, 0, 0], choices)
fake.fake_refuse(HUNGRY)
pydl.cuda.set_per_process_memory_fraction(0.01)
try:
    F.conv2d(numbers((1, 3, 20, 5), "float32")[0], w)
except MemoryError as error:
    assert "out of memory on cuda:0" in str(error) and "conv" in str(error), error
else:
    raise AssertionError("no MemoryError")
print("fine")
"""

CAPTURE = """
x, _ = numbers((2, 3, 6, 6), "float32")
w, _ = numbers((4, 3, 3, 3), "float32")
b, _ = numbers((4,), "float32")
for t in (x, w, b):
    t.requires_grad_()
graph = pydl.cuda.CUDAGraph()
with pydl.cuda.graph(graph):  # the first convolution of all: the handle is made while capturing
    y = F.conv2d(x, w, b, padding=1)
    d_x, d_w, d_b = pydl.autograd.grad((y * y).sum(), [x, w, b])
assert runs() == [1, 1, 1]
for _ in range(2):
    fresh = [numbers(t.shape, "float32") for t in (x, w, b)]
    with pydl.no_grad():
        for t, (values, _) in zip((x, w, b), fresh):
            t.copy_(values)
    graph.replay()
    (_, xe), (_, we), (_, be) = fresh
    ye = correlate(xe, we, padding=1) + be.reshape(-1, 1, 1)
    close(y.detach(), ye, "float32")
    for got, exact in zip((d_x, d_w), correlate(xe, we, padding=1, d_y=2 * ye)):
        close(got, exact, "float32")
    close(d_b, (2 * ye).sum(axis=(0, 2, 3)), "float32")
assert runs() == [1, 1, 1]

def trained(capture):
    pydl.manual_seed(0)
    nn = pydl.nn
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).to("cuda")
    trainer = pydl.Trainer(model, "cross_entropy", lr=0.1, capture=capture)
    data = np.random.default_rng(1)
    x, y = data.normal(size=(40, 2, 5, 5)).astype("float32"), data.integers(0, 3, 40)
    trainer.fit(x, y, epochs=2, batch_size=8, verbose=0)
    return [p.detach().cpu().numpy() for p in model.parameters()]

before = runs()[2]
plain = trained(False)
assert runs()[2] == before + 10
captured = trained(True)
assert runs()[2] < before + 16  # replays are no calls
for a, c in zip(plain, captured):
    np.testing.assert_array_equal(a, c)
print("fine")
"""


CONVOLVE = """
import pydl, pydl.nn.functional as F
y = F.conv2d(pydl.ones((1, 2, 4, 4), device="cuda"), pydl.ones((3, 2, 3, 3), device="cuda"))
assert y.cpu().tolist() == [[[[18.0] * 2] * 2] * 3]
print(pydl.backend.info()["cuda_libraries"][-1])
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    source, library = pathlib.Path(__file__).parent / "fake_cudnn.cpp", tmp_path_factory.mktemp("dnn") / "libfake.so"
    assert COMPILER is not None
    subprocess.run([COMPILER, "-std=c++17", "-O1", "-shared", "-fPIC", source, "-o", library], check=True)
    return library


@pytest.mark.parametrize("script", ["VALUES", "REFUSALS", "CAPTURE"])
def test_convolutions_by_a_library_of_that_interface(library: pathlib.Path, script: str) -> None:
    environment = {**os.environ, "PYDL_CUDNN": str(library), "TESTS": str(pathlib.Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + globals()[script]], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "fine\n"


@pytest.mark.parametrize("setting", ["off", "no/such/library.so", "libm.so.6"])
def test_without_the_library_our_own_kernels_convolve(setting: str) -> None:
    environment = {**os.environ, "PYDL_CUDNN": setting}
    done = subprocess.run([sys.executable, "-c", CONVOLVE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "convolutions by own kernels\n"


def test_cudnn_itself_is_found_and_does_without_a_gpu() -> None:
    """Its functions are there under the names that we call; where there is no handle, our own kernels convolve."""
    found = importlib.util.find_spec("nvidia.cudnn") if importlib.util.find_spec("nvidia") else None
    places = found.submodule_search_locations or [] if found else []
    libraries = [library for place in places for library in pathlib.Path(place).glob("lib/libcudnn.so.*")]
    if not libraries:
        pytest.skip("no cuDNN is installed")
    environment = {**os.environ, "PYDL_CUDNN": str(libraries[0])}
    done = subprocess.run([sys.executable, "-c", CONVOLVE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("convolutions by cuDNN ")
