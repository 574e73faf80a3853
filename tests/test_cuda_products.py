"""Products, convolutions and recurrent layers on a CUDA device against the CPU: where the kernels change their way.

What test_gemm_paths, test_convolution, test_recurrent and test_picked_rows say of any device is not repeated; run those
with --device cuda.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
import pydl.nn.functional as F
from pydl import Tensor, nn
from pydl.nn.utils.stateless import functional_call
from test_cuda_kernels import FLOATS, check, normal

pytestmark = pytest.mark.skipif(not pydl.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(params=FLOATS)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- products


# One tile of each kind, tiles in part, an inner axis that is split, and nothing to add up.
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 7, 300), (33, 16, 5), (70, 65, 1500), (129, 130, 8), (5, 4, 0)], ids=str
)
def test_matmul(shape: tuple[int, int, int], dtype: str, rng: np.random.Generator) -> None:
    m, n, k = shape
    check(lambda a, b: a @ b, normal(rng, dtype, m, k), normal(rng, dtype, k, n))
    check(lambda a, b: a.T @ b.T, normal(rng, dtype, k, m), normal(rng, dtype, n, k))


def test_large_tiles(rng: np.random.Generator) -> None:
    check(lambda a, b: a @ b, normal(rng, "float32", 1290, 20), normal(rng, "float32", 20, 1301), gradients=False)


def test_batches_steps_and_bias(dtype: str, rng: np.random.Generator) -> None:
    check(lambda a, b: a[:, ::2, 1:] @ b, normal(rng, dtype, 3, 9, 8), normal(rng, dtype, 3, 7, 5))
    check(lambda a, b: a @ b, normal(rng, dtype, 4, 1, 6, 5), normal(rng, dtype, 3, 5, 2))
    check(F.linear, normal(rng, dtype, 4, 3, 11), normal(rng, dtype, 66, 11), normal(rng, dtype, 66))


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(3, 5, 40), (65, 70, 33), (2, 16, 700)], ids=str)
def test_16_bits_are_added_up_in_32(half: str, shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    m, n, k = shape
    kind = getattr(pydl, half)
    a, b = (pydl.tensor(normal(rng, "float32", *s)).astype(kind) for s in ((m, k), (k, n)))
    y = a.to("cuda") @ b.to("cuda")
    assert y.dtype == kind
    exact = a.astype(pydl.float64).numpy() @ b.astype(pydl.float64).numpy()
    unit = 2.0**-10 if half == "float16" else 2.0**-7  # of the result alone: one rounding
    np.testing.assert_allclose(y.cpu().astype(pydl.float64).numpy(), exact, rtol=0.51 * unit, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 9])
def test_int8_linear_has_the_cpus_bits(rows: int, rng: np.random.Generator) -> None:
    layer = nn.Linear(70, 33)
    small = nn.quantize_dynamic(nn.Sequential(layer))
    x = pydl.tensor(normal(rng, "float32", rows, 70))
    with pydl.no_grad():
        expected = small(x).numpy()
        np.testing.assert_array_equal(small.to("cuda")(x.to("cuda")).cpu().numpy(), expected)


# --- convolutions

CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 5, 9, 8), (7, 5, 3, 3), {"padding": 1}),
    ((1, 3, 11, 6), (70, 3, 4, 2), {"stride": (2, 3), "dilation": (1, 2)}),
    ((2, 6, 7, 7), (9, 2, 3, 3), {"groups": 3, "stride": 2, "padding": 2}),
    ((2, 12, 6, 5), (12, 1, 3, 3), {"groups": 12, "padding": 1}),
    ((2, 12, 6, 5), (24, 4, 3, 2), {"groups": 3}),
    ((3, 33, 7, 6), (40, 33, 1, 1), {}),
    ((2, 40, 10, 9), (3, 40, 3, 3), {"padding": 1}),
    ((1, 2, 3, 2), (2, 2, 3, 2), {}),
]


@pytest.mark.parametrize(("x", "w", "options"), CONVOLUTIONS, ids=str)
def test_conv2d(x: tuple[int, ...], w: tuple[int, ...], options: dict[str, Any], dtype: str) -> None:
    rng = np.random.default_rng(3)
    arrays = normal(rng, dtype, *x), normal(rng, dtype, *w), normal(rng, dtype, w[0])
    check(lambda x, w, b: F.conv2d(x, w, b, **options), *arrays)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_and_other_ranks(stride: int, dtype: str, rng: np.random.Generator) -> None:
    x, w, b = normal(rng, dtype, 2, 4, 5, 6), normal(rng, dtype, 4, 3, 3, 2), normal(rng, dtype, 6)
    check(lambda x, w, b: F.conv_transpose2d(x, w, b, stride=stride, padding=1, groups=2), x, w, b)
    check(lambda x, w: F.conv1d(x, w, stride=stride), normal(rng, dtype, 2, 3, 17), normal(rng, dtype, 4, 3, 5))
    x, w = normal(rng, dtype, 1, 2, 5, 4, 6), normal(rng, dtype, 3, 2, 2, 3, 3)
    check(lambda x, w: F.conv3d(x, w, stride=stride, padding=1), x, w)


def test_convolution_of_channels_last_slices(rng: np.random.Generator) -> None:
    x, w = normal(rng, "float64", 2, 6, 7, 9), normal(rng, "float64", 4, 5, 3, 3)

    def function(x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(pydl.permute_dims(x, (0, 3, 1, 2))[:, 2:7], w)

    check(function, x, w)


# --- recurrent layers


# (time, batch, input, hidden): a step and a row, rows in part, units of several blocks, weights that do not fit on the
# emulated device and are streamed.
SIZES = [(1, 1, 1, 1), (5, 3, 4, 7), (4, 70, 3, 16), (3, 5, 6, 130), (2, 2, 3, 300), (0, 2, 3, 4)]
LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_recurrent(name: str, sizes: tuple[int, ...], ragged: bool, dtype: str, rng: np.random.Generator) -> None:
    steps, batch, inputs, hidden = sizes
    layer = LAYERS[name](inputs, hidden, bidirectional=True).to(getattr(pydl, dtype))
    x, h = normal(rng, dtype, steps, batch, inputs), normal(rng, dtype, 2, batch, hidden)
    lengths = np.array([(7 * b + 3) % (steps + 1) for b in range(batch)])
    if ragged:
        for b, length in enumerate(lengths):
            x[length:, b] = np.nan  # never read

    def function(x: Tensor, h: Tensor, *weights: Tensor) -> Any:
        names = [n for n, _ in layer.named_parameters()]
        state = (h, 2 * h) if name == "lstm" else h
        extra = {"lengths": pydl.tensor(lengths).to(x.device.type)} if ragged else {}
        return functional_call(layer, dict(zip(names, weights, strict=True)), (x, state), extra)

    check(function, x, h, *(p.detach().numpy() for p in layer.parameters()))


@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_layers_of_picked_rows(name: str, dtype: str, rng: np.random.Generator) -> None:
    layer = LAYERS[name](4, 6, num_layers=2).to(getattr(pydl, dtype))
    ids, table = rng.integers(0, 5, (7, 3)), normal(rng, dtype, 5, 4)

    def function(table: Tensor) -> Any:
        return layer.to(table.device.type)(F.embedding(pydl.tensor(ids).to(table.device.type), table))

    check(function, table)
