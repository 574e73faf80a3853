"""Memory shared with NumPy, PyTorch and whatever speaks DLPack or the buffer protocol: no copies, nothing dangling."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
from typing import Any

import numpy as np
import pytest

import pydl
from layouts import LAYOUTS
from tolerances import assert_same_bits

DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)


def sample(dtype: str, shape: tuple[int, ...] = (3, 5)) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) * 3 % 7).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", ["from_numpy", "asarray"])
def test_numpy_in_without_a_copy(dtype: str, make: str) -> None:
    a = sample(dtype)
    x = pydl.from_numpy(a) if make == "from_numpy" else pydl.asarray(a, copy=False)
    assert x.dtype == getattr(pydl, dtype)
    a[1, 2] = 1
    a[0, 0] = 0
    np.testing.assert_array_equal(x.numpy(), a, strict=True)
    x[2, 4] = 1
    assert a[2, 4] == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("out", ["numpy", "asarray", "frombuffer"])
def test_numpy_out_without_a_copy(dtype: str, out: str) -> None:
    x = pydl.asarray(sample(dtype).copy())
    view = {
        "numpy": lambda: x.numpy(),
        "asarray": lambda: np.asarray(x),
        "frombuffer": lambda: np.asarray(memoryview(x)),
    }[out]()
    np.testing.assert_array_equal(view, sample(dtype), strict=True)
    view[1, 1] = 1
    assert x[1, 1].item() == 1
    x[2, 2] = 0
    assert view[2, 2] == 0


def test_asarray_copy_argument() -> None:
    a = sample("float32")
    copied = pydl.asarray(a, copy=True)
    a[0, 0] = 77
    assert copied[0, 0].item() == 0
    x = pydl.asarray(a, copy=False)
    assert pydl.asarray(x, copy=False)[0, 0].item() == 77
    with pytest.raises(ValueError, match=r"\[asarray\]"):
        pydl.asarray(a, dtype=pydl.float64, copy=False)
    with pytest.raises(ValueError, match=r"\[asarray\]"):
        pydl.asarray([1.0, 2.0], copy=False)


def test_tensor_copies_as_in_torch() -> None:
    a = sample("float32")
    x = pydl.tensor(a)
    a[0, 0] = 77
    assert x[0, 0].item() == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_survive_both_ways(layout: str) -> None:
    values, x = LAYOUTS[layout](sample("float32", (4, 6)))
    for out in (x.numpy(), np.asarray(x), np.from_dlpack(x) if layout != "nothing" else None):
        np.testing.assert_array_equal(out, values)
    np.testing.assert_array_equal(pydl.from_numpy(x.numpy()).numpy(), values)


@pytest.mark.parametrize(
    "cut",
    [np.s_[::-1], np.s_[:, ::-2], np.s_[1:3, 4:0:-1], np.s_[..., None], np.s_[0], np.s_[2:2], np.s_[::3, ::2]],
    ids=str,
)
def test_numpy_views_come_in_with_their_strides(cut: Any) -> None:
    a = sample("int64", (4, 6))
    x = pydl.from_numpy(a[cut])
    np.testing.assert_array_equal(x.numpy(), a[cut], strict=True)
    a += 5
    np.testing.assert_array_equal(x.numpy(), a[cut], strict=True)
    np.testing.assert_array_equal((x + 1).numpy(), a[cut] + 1)


def test_zero_dimensional_and_empty() -> None:
    np.testing.assert_array_equal(pydl.from_numpy(np.array(3.5)).numpy(), np.array(3.5), strict=True)
    np.testing.assert_array_equal(pydl.from_numpy(np.zeros((0, 3))).numpy(), np.zeros((0, 3)), strict=True)
    assert pydl.asarray(np.float32(2.5)).dtype == pydl.float32


def test_foreign_byte_order_and_fields() -> None:
    """Bytes in another order are converted or refused, never misread."""
    a = np.array([1.0, 2.0], dtype=">f4")
    try:
        x = pydl.asarray(a)
    except (TypeError, ValueError):
        return
    assert x.numpy().tolist() == [1.0, 2.0]


def test_types_that_are_no_numbers_are_refused() -> None:
    for strange in (
        np.array(["a"]),
        np.array([1j]),
        np.zeros(2, [("a", "f4")]),
        np.array(["2020-01-01"], "M8[D]"),
        np.array([None]),
    ):
        with pytest.raises((TypeError, ValueError), match=r"\["):
            pydl.asarray(strange)


def test_misaligned_arrays_are_read_correctly() -> None:
    raw = np.zeros(1 + 8 * 10, np.uint8)
    a = raw[1:].view(np.float64)
    a[:] = np.arange(10)
    assert not a.flags.aligned
    np.testing.assert_array_equal((pydl.asarray(a) + 1).numpy(), np.arange(10) + 1.0)


def test_read_only_arrays_stay_as_they_are() -> None:
    a = sample("float32")
    a.flags.writeable = False
    x = pydl.asarray(a)
    np.testing.assert_array_equal((x * 2).numpy(), a * 2)
    before = a.copy()
    with contextlib.suppress(ValueError):
        x.add_(1)
        x[0, 0] = 99
    np.testing.assert_array_equal(a, before)
    broadcast = np.broadcast_to(np.float32(3), (2, 2))
    np.testing.assert_array_equal((pydl.asarray(broadcast) + 1).numpy(), np.full((2, 2), 4, np.float32))


def test_memory_outlives_its_owner() -> None:
    for _ in range(50):
        a = np.full(10_000, 7.0)
        x = pydl.from_numpy(a)
        del a
        gc.collect()
        junk = [np.zeros(10_000) for _ in range(4)]
        assert float(pydl.sum(x).numpy()) == 70_000.0
        view = (x + 1).numpy()
        del x
        gc.collect()
        junk.append(pydl.zeros((10_000,)).numpy())
        assert view.sum() == 80_000.0
    buffer = memoryview(pydl.asarray(np.arange(5.0)))
    gc.collect()
    assert buffer.tolist() == [0, 1, 2, 3, 4]


def test_numpy_array_is_released() -> None:
    import sys

    a = np.zeros(1000)
    before = sys.getrefcount(a)
    x = pydl.from_numpy(a)
    y = x[3:]
    assert sys.getrefcount(a) > before
    del x, y
    gc.collect()
    assert sys.getrefcount(a) == before


def test_tensors_with_gradients_do_not_leave_unnoticed() -> None:
    x = pydl.zeros((3,)).requires_grad_()
    for leave in (lambda: x.numpy(), lambda: np.asarray(x), lambda: np.from_dlpack(x), lambda: memoryview(x)):
        with pytest.raises((ValueError, TypeError, BufferError), match="detach"):
            leave()
    assert x.detach().numpy().tolist() == [0, 0, 0]


def test_array_protocol_arguments() -> None:
    x = pydl.asarray(np.array([1.5, 2.5]))
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    copied = np.array(x)
    copied[0] = 9
    assert x.numpy().tolist() == [1.5, 2.5]
    with pytest.raises(ValueError, match="copy"):
        np.array(x, dtype=np.float32, copy=False)


def test_numpy_functions_take_tensors() -> None:
    x = pydl.asarray(np.array([[1.0, 4.0], [9.0, 16.0]]))
    np.testing.assert_array_equal(np.sqrt(x), [[1, 2], [3, 4]])
    assert np.sum(x) == 30
    mixed = x + np.array([1.0, 2.0])
    reflected = np.array([1.0, 2.0]) + x
    for got in (mixed, reflected):
        assert isinstance(got, pydl.Tensor)
        assert got.numpy().tolist() == [[2, 6], [10, 18]]
    assert (np.float32(2) * x).numpy().tolist() == [[2, 8], [18, 32]]


def test_array_namespace() -> None:
    x = pydl.zeros((2,))
    xp = x.__array_namespace__()
    assert xp.asarray is pydl.asarray
    assert x.__array_namespace__(api_version="2022.12").sum is pydl.sum
    with pytest.raises(ValueError, match="1999"):
        x.__array_namespace__(api_version="1999.01")
    assert pydl.__array_api_version__ >= "2022.12"


def test_code_for_the_standard_runs() -> None:
    """A function that knows only the standard, on NumPy and on pydl."""

    def standardize(x: Any) -> Any:
        xp = x.__array_namespace__()
        centred = x - xp.mean(x, axis=0, keepdims=True)
        spread = xp.sqrt(xp.mean(xp.square(centred), axis=0, keepdims=True))
        return xp.where(xp.isfinite(x), centred / spread, xp.zeros_like(x))

    a = np.random.default_rng(1).normal(size=(20, 3))
    np.testing.assert_allclose(standardize(pydl.asarray(a)).numpy(), standardize(a), rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_to_numpy_and_back(dtype: str) -> None:
    x = pydl.asarray(sample(dtype).copy())
    out = np.from_dlpack(x)
    np.testing.assert_array_equal(out, sample(dtype), strict=True)
    x[0, 1] = 1
    assert out[0, 1] == 1
    back = pydl.from_dlpack(out if out.flags.writeable else out.copy())
    assert back.dtype == getattr(pydl, dtype)
    np.testing.assert_array_equal(back.numpy(), out)
    assert x.__dlpack_device__() == (1, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool", "float16", "bfloat16"])
def test_dlpack_with_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.arange(12).reshape(3, 4).to(getattr(torch, dtype))
    x = pydl.from_dlpack(theirs)
    assert x.dtype == getattr(pydl, dtype)
    theirs[1, 1] = 0
    assert x.astype(pydl.float64).numpy().tolist() == theirs.double().tolist()
    back = torch.from_dlpack(x)
    back[2, 2] = 1
    assert theirs[2, 2] == 1
    turned = torch.from_dlpack(pydl.permute_dims(x, (1, 0))[1:])
    assert turned.double().tolist() == theirs.T[1:].double().tolist()


def test_dlpack_outlives_the_tensor() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.from_dlpack(pydl.asarray(np.arange(10_000.0)) + 1)
    gc.collect()
    junk = [pydl.zeros((10_000,), dtype=pydl.float64) for _ in range(5)]
    assert float(theirs.sum()) == 10_000 * 10_001 / 2
    ours = pydl.from_dlpack(torch.arange(10_000.0) + 1)
    gc.collect()
    junk.append(pydl.asarray(torch.zeros(10_000).numpy()))
    assert float(pydl.sum(ours).numpy()) == 10_000 * 10_001 / 2


def test_an_unused_dlpack_capsule_frees_its_memory() -> None:
    for _ in range(200):
        pydl.zeros((256, 1024)).__dlpack__()
    gc.collect()


def test_torch_tensors_come_in() -> None:
    torch = pytest.importorskip("torch")
    assert pydl.asarray(torch.tensor([1.0, 2.0])).numpy().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "stepped"])
@pytest.mark.parametrize("via", ["pickle", "copy", "deepcopy"])
def test_copies_and_pickles(layout: str, via: str) -> None:
    values, x = LAYOUTS[layout](sample("float32"))
    make = {"pickle": lambda t: pickle.loads(pickle.dumps(t)), "copy": copy.copy, "deepcopy": copy.deepcopy}[via]
    y = make(x)
    np.testing.assert_array_equal(y.numpy(), values, strict=True)
    if via != "copy":
        y.fill_(3)
        np.testing.assert_array_equal(x.numpy(), values)
    leaf = pydl.asarray(values.copy()).requires_grad_()
    assert make(leaf).requires_grad


def test_deepcopy_keeps_shared_memory_shared_once() -> None:
    x = pydl.asarray(np.arange(3.0))
    first, second = copy.deepcopy([x, x])
    assert first is second


@pytest.mark.parametrize("dtype", DTYPES)
def test_tolist_round_trip(dtype: str) -> None:
    x = pydl.asarray(sample(dtype))
    assert x.tolist() == sample(dtype).tolist()
    assert_same_bits(pydl.asarray(x.tolist(), dtype=getattr(pydl, dtype)).numpy(), sample(dtype))
