"""Padding, dropout, bags, attention and distances without PyTorch: NumPy's answer, distributions, mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.nn import functional as F
from tolerances import assert_near, assert_same_bits


def double(array: Any) -> Any:
    return pydl.asarray(np.ascontiguousarray(array, np.float64))


def numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy()


# ---- padding

NUMPY_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
WIDTHS = [((3, 4), [(1, 2)]), ((2, 3, 5), [(2, 2)]), ((2, 5, 4), [(1, 0), (3, 2)]), ((2, 3, 4, 5), [(2, 1), (0, 4)])]
WIDTHS += [((1, 2, 3, 4, 5), [(2, 1), (3, 3), (1, 4)]), ((2, 1, 3), [(0, 0)])]


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize(("shape", "widths"), WIDTHS)
def test_borders_are_numpys(mode: str, shape: tuple[int, ...], widths: list, rng: np.random.Generator) -> None:
    x = rng.normal(size=shape)
    flat = [w for pair in widths[::-1] for w in pair]
    wanted = np.pad(x, [(0, 0)] * (len(shape) - len(widths)) + widths, mode=NUMPY_MODES[mode])  # type: ignore[call-overload]
    tensor = double(x).requires_grad_()
    assert np.array_equal(numpy(F.pad(tensor, flat, mode)), wanted)
    assert pydl.autograd.gradcheck(lambda t: F.pad(t, flat, mode), (tensor,))
    for kind in ("float32", "int32", "uint8", "bool", "float16"):
        got = F.pad(pydl.asarray(np.abs(x * 9).astype(kind)), flat, mode).numpy()
        assert np.array_equal(got, np.pad(np.abs(x * 9).astype(kind), [(0, 0)] * (len(shape) - len(widths)) + widths,
                                          mode=NUMPY_MODES[mode]), equal_nan=False)  # type: ignore[call-overload]  # fmt: skip


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_borders_of_channels_last_images_stay_channels_last(mode: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 4, 5))
    last = pydl.permute_dims(double(x.transpose(0, 2, 3, 1)), (0, 3, 1, 2)).requires_grad_()
    y = F.pad(last, (1, 2, 3, 0), mode)
    assert pydl.permute_dims(y, (0, 2, 3, 1)).is_contiguous()
    assert np.array_equal(numpy(y), numpy(F.pad(double(x), (1, 2, 3, 0), mode)))
    upstream = rng.normal(size=y.shape)
    (got,) = pydl.autograd.grad(y, last, double(upstream))
    plain = double(x).requires_grad_()
    (wanted,) = pydl.autograd.grad(F.pad(plain, (1, 2, 3, 0), mode), plain, double(upstream))
    assert_near(numpy(got), numpy(wanted), 1e-14, 1e-14)


def test_borders_same_bits_for_any_number_of_threads(rng: np.random.Generator, threads: None) -> None:
    x, upstream = (rng.normal(size=(8, 5, n, n)).astype(np.float32) for n in (60, 68))
    results = []
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        t = pydl.asarray(x).requires_grad_()
        y = F.pad(t, (4,) * 4, "reflect")
        y.backward(pydl.asarray(upstream))
        results.append((numpy(y).copy(), t.grad.numpy().copy()))
    for other in results[1:]:
        assert_same_bits(other[0], results[0][0])
        assert_same_bits(other[1], results[0][1])


# ---- dropout


def channel_patterns(y: np.ndarray, batch: int) -> np.ndarray:
    """Of each channel, whether it was kept; all of a channel must agree."""
    flat = y.reshape(*y.shape[:batch], -1)
    assert np.array_equal(flat, np.broadcast_to(flat[..., :1], flat.shape))
    return flat[..., 0]


@pytest.mark.parametrize(
    ("layer", "shape", "batch"),
    [
        (nn.Dropout1d, (50, 40, 3), 2),
        (nn.Dropout1d, (2000, 3), 1),
        (nn.Dropout2d, (50, 40, 3, 2), 2),
        (nn.Dropout2d, (50, 40, 3), 2),
        (nn.Dropout3d, (50, 40, 2, 2, 2), 2),
        (nn.Dropout3d, (2000, 2, 2, 2), 1),
    ],
)
def test_whole_channels_are_dropped(layer: Any, shape: tuple[int, ...], batch: int) -> None:
    pydl.manual_seed(1)
    y = numpy(layer(0.25)(pydl.ones(shape)))
    kept = channel_patterns(y, batch)
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((kept == 0).mean() - 0.25) < 5 * np.sqrt(0.1875 / kept.size)
    assert np.array_equal(numpy(layer(0.25).eval()(pydl.ones(shape))), np.ones(shape))
    assert not numpy(layer(1.0)(pydl.ones(shape))).any()


@pytest.mark.parametrize("layer", [nn.AlphaDropout, nn.FeatureAlphaDropout])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_alpha_dropout_keeps_mean_and_variance(layer: Any, p: float) -> None:
    pydl.manual_seed(2)
    x = pydl.randn(20_000, 10, 2)
    y = numpy(layer(p)(x))
    assert abs(y.mean()) < 0.02
    assert abs(y.var() - 1) < 0.03
    values, counts = np.unique(np.round(y, 4), return_counts=True)
    assert abs(counts.max() / y.size - p) < 0.02  # where all dropped ones are
    assert not numpy(nn.AlphaDropout(1.0)(x)).any()
    assert values[counts.argmax()] < -0.5


def test_classical_dropout_scales_in_evaluation() -> None:
    pydl.manual_seed(3)
    layer = nn.Dropout(0.25, classical=True)
    y = numpy(layer(pydl.ones((10_000,))))
    assert set(np.round(np.unique(y), 6)) == {np.float32(0), np.float32(1)}
    assert abs(y.mean() - 0.75) < 0.025
    assert numpy(layer.eval()(pydl.ones((3,)))).tolist() == [0.75] * 3
    x = pydl.ones((4,), requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.numpy().tolist() == [0.75] * 4


# ---- activations that draw


def test_rrelu_draws_its_slopes() -> None:
    pydl.manual_seed(5)
    x = np.concatenate([np.full(20_000, -2.0), np.full(10, 3.0)])
    tensor = double(x).requires_grad_()
    y = nn.RReLU(0.2, 0.6)(tensor)
    slopes = numpy(y)[:20_000] / -2
    assert 0.2 <= slopes.min() < 0.201
    assert 0.599 < slopes.max() <= 0.6
    assert abs(slopes.var() / (0.16 / 12) - 1) < 0.05
    assert numpy(y)[20_000:].tolist() == [3.0] * 10
    y.sum().backward()
    assert_near(tensor.grad.numpy()[:20_000], slopes, 1e-14, 0)


def test_gumbel_softmax_samples_the_categories() -> None:
    pydl.manual_seed(6)
    logits = double(np.tile(np.log([0.1, 0.2, 0.7]), (20_000, 1))).requires_grad_()
    hard = F.gumbel_softmax(logits, tau=0.5, hard=True)
    assert_near(numpy(hard).mean(0), np.array([0.1, 0.2, 0.7]), 0, 0.015)
    assert_near(numpy(hard).sum(1), np.ones(20_000), 1e-12, 0)
    hard[:, 0].sum().backward()
    assert np.abs(logits.grad.numpy()).max() > 0
    assert_near(numpy(F.gumbel_softmax(logits, dim=0)).sum(0), np.ones(3), 1e-9, 0)


IN_PLACE: list[tuple[str, tuple[Any, ...]]] = [
    ("relu_", ()), ("elu_", (0.5,)), ("celu_", (0.5,)), ("selu_", ()), ("hardtanh_", (-0.5, 0.5)),
    ("leaky_relu_", (0.2,)), ("rrelu_", ()), ("threshold_", (0.1, 7.0)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), IN_PLACE)
def test_activations_in_place(name: str, arguments: tuple, rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 4))
    leaf = double(x).requires_grad_()
    copy = leaf * 1.0
    result = getattr(F, name)(copy, *arguments)
    assert result is copy
    plain = double(x).requires_grad_()
    wanted = getattr(F, name[:-1])(plain, *arguments)
    assert np.array_equal(numpy(result), numpy(wanted))
    for t, y in ((leaf, result), (plain, wanted)):
        (y * y).sum().backward()
        assert t.grad is not None
    assert_near(leaf.grad.numpy(), plain.grad.numpy(), 1e-14, 0)


# ---- embedding bags


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 1])
def test_bags_by_hand(mode: str, padding_idx: int | None, rng: np.random.Generator) -> None:
    table, ids = rng.normal(size=(6, 3)), rng.integers(0, 6, 11)
    bags = [ids[0:4], ids[4:4], ids[4:5], ids[5:11]]
    wanted = np.zeros((4, 3))
    for row, bag in zip(wanted, bags, strict=True):
        used = table[bag[bag != padding_idx]]
        if len(used):
            row[:] = {"sum": used.sum(0), "mean": used.mean(0), "max": used.max(0)}[mode]
    weight = double(table).requires_grad_()
    offsets = pydl.asarray([0, 4, 4, 5])

    def bag_of(w: Any) -> Any:
        return F.embedding_bag(pydl.asarray(ids), w, offsets, mode=mode, padding_idx=padding_idx)

    assert_near(numpy(bag_of(weight)), wanted, 1e-13, 1e-14)
    (gradient,) = pydl.autograd.grad(bag_of(weight).sum(), weight)
    if padding_idx is None:
        assert pydl.autograd.gradcheck(bag_of, (weight,))
    else:
        assert not gradient.numpy()[padding_idx].any()
    ends = pydl.asarray([0, 4, 4, 5, 11])
    closed = F.embedding_bag(
        pydl.asarray(ids), weight, ends, mode=mode, padding_idx=padding_idx, include_last_offset=True
    )
    assert np.array_equal(numpy(closed), numpy(bag_of(weight)))


def test_weighted_bags_have_gradients_for_their_weights(rng: np.random.Generator) -> None:
    ids, offsets = pydl.asarray(rng.integers(0, 5, 7)), pydl.asarray([0, 3])
    weight, shares = (double(rng.normal(size=s)).requires_grad_() for s in ((5, 2), (7,)))
    assert pydl.autograd.gradcheck(
        lambda w, s: F.embedding_bag(ids, w, offsets, mode="sum", per_sample_weights=s), (weight, shares)
    )


# ---- attention


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_attention_by_hand(rng: np.random.Generator) -> None:
    q, k, v = rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 7, 4)), rng.normal(size=(2, 7, 3))
    scores = q @ k.swapaxes(1, 2) / 2
    assert_near(
        numpy(F.scaled_dot_product_attention(double(q), double(k), double(v))), softmax(scores) @ v, 1e-12, 1e-13
    )
    causal = np.where(np.arange(7) <= np.arange(5)[:, None], scores, -np.inf)
    got = F.scaled_dot_product_attention(double(q), double(k), double(v), is_causal=True)
    assert_near(numpy(got), softmax(causal) @ v, 1e-12, 1e-13)


@pytest.mark.parametrize(
    ("queries", "keys"), [(128, 128), (200, 130), (130, 300), (257, 1), (129, 0), (1100, 1030), (1030, 9)]
)
def test_causal_attention_in_blocks(queries: int, keys: int, rng: np.random.Generator) -> None:
    """The same as with the mask, values and gradients."""
    q, k, v = (double(rng.normal(size=s)).requires_grad_() for s in ((2, 1, queries, 4), (3, keys, 4), (keys, 5)))
    mask = pydl.expand_dims(pydl.arange(queries), axis=1) >= pydl.arange(keys)
    up = double(rng.normal(size=(2, 3, queries, 5)))
    results = []
    for options in ({"is_causal": True}, {"attn_mask": mask}):
        y = F.scaled_dot_product_attention(q, k, v, **options)
        assert y.shape == (2, 3, queries, 5)
        results.append([y.detach(), *pydl.autograd.grad(y, [q, k, v], up)])
    for got, wanted in zip(*results, strict=True):
        assert_near(numpy(got), numpy(wanted), 1e-11, 1e-12)
    assert F.scaled_dot_product_attention(q, k, v, None, 0.5, True).shape == (2, 3, queries, 5)


def test_a_causal_layer_without_weights_is_the_same(rng: np.random.Generator) -> None:
    layer = nn.MultiheadAttention(8, 2).double()
    x = double(rng.normal(size=(150, 2, 8)))
    wanted, _ = layer(x, x, x, is_causal=True)
    got, nothing = layer(x, x, x, need_weights=False, is_causal=True)
    assert nothing is None
    assert_near(numpy(got), numpy(wanted), 1e-12, 1e-13)


def test_a_query_without_keys_gives_zeros_and_finite_gradients(rng: np.random.Generator) -> None:
    q, k, v = (double(rng.normal(size=(3, 4))).requires_grad_() for _ in range(3))
    for mask in (
        pydl.asarray([[True, False, True], [False] * 3, [True] * 3]),
        double([[0, -np.inf, 0], [-np.inf] * 3, [0, 0, 0]]),
    ):
        y = F.scaled_dot_product_attention(q, k, v, mask)
        assert not numpy(y)[1].any()
        assert np.abs(numpy(y)[0]).max() > 0
        for g in pydl.autograd.grad(y.sum(), [q, k, v]):
            assert np.isfinite(g.numpy()).all()


def test_attention_learns_to_look_back_only() -> None:
    layer = nn.MultiheadAttention(8, 2)
    x = pydl.randn(6, 2, 8)
    _, weights = layer(x, x, x, is_causal=True)
    assert not np.triu(numpy(weights), 1).any()
    assert_near(numpy(weights).sum(-1), np.ones((2, 6)), 1e-6, 0)
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    assert_near(numpy(layer(x, x, x, attn_mask=mask)[1]), numpy(weights), 1e-6, 1e-7)


def test_attention_drops_weights_while_training() -> None:
    layer = nn.MultiheadAttention(8, 2, dropout=0.5)
    x = pydl.randn(20, 10, 8)
    _, weights = layer(x, x, x, average_attn_weights=False)
    assert abs((numpy(weights) == 0).mean() - 0.5) < 0.05
    assert (numpy(layer.eval()(x, x, x)[1]) > 0).all()


def test_copies_of_a_layer_are_their_own() -> None:
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 3, nn.Identity())
    assert len({id(p) for p in stack.parameters()}) == len(list(stack.parameters())) == 3 * 12
    names = [name for name, _ in stack.named_parameters()]
    assert names[0] == "layers.0.self_attn.in_proj_weight"
    assert names[-1] == "layers.2.norm2.bias"


def test_a_transformer_learns_to_copy() -> None:
    pydl.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 1)
    table, head = nn.Embedding(7, 16), nn.Linear(16, 7)
    place = nn.Parameter(pydl.randn(5, 16) * 0.3)
    parameters = [*model.parameters(), *table.parameters(), *head.parameters(), place]
    optimizer = pydl.optim.Adam(parameters, lr=1e-2)
    for _ in range(150):
        x = pydl.randint(0, 7, (64, 5))
        logits = head(model(table(x) + place))
        loss = F.cross_entropy(logits.reshape((-1, 7)), pydl.flip(x, axis=1).reshape((-1,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


# ---- distances


def test_distances_by_hand(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(30, 3)), rng.normal(size=(27, 3))
    wanted = np.sqrt(((a[:, None] - b) ** 2).sum(-1))
    for mode in ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"):
        assert_near(numpy(F.cdist(double(a), double(b), compute_mode=mode)), wanted, 1e-10, 1e-12)
    same = double(a).requires_grad_()
    F.cdist(same, same).sum().backward()
    assert np.isfinite(same.grad.numpy()).all()
    upper = np.sqrt(((a[:, None] - a) ** 2).sum(-1))[np.triu_indices(30, 1)]
    assert_near(numpy(F.pdist(double(a))), upper, 1e-13, 0)
    assert F.pdist(double(a[:1])).shape == (0,)


# ---- mistakes

X = pydl.ones((2, 3, 4))
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda: F.pad(X, (1,)), ValueError, r"\[pad\] got 1 widths"),
    (lambda: F.pad(X, (4, 0), "reflect"), ValueError, r"\[pad\] got the width 4.*at most 3"),
    (lambda: F.pad(X, (0, 5), "circular"), ValueError, r"\[pad\] got the width 5.*at most 4"),
    (lambda: F.pad(X, (-4, 0), "replicate"), ValueError, r"\[pad\].*not empty"),
    (lambda: F.pad(X, (1, 1), "mirror"), ValueError, r"\[pad\] got mode 'mirror'"),
    (lambda: nn.ZeroPad2d((1, 2)), ValueError, r"\[ZeroPad2d\] got padding \(1, 2\)"),
    (lambda: nn.ReflectionPad2d(1)(pydl.ones((3, 4))), ValueError, r"\[ReflectionPad2d\] got input of shape \(3, 4\)"),
    (lambda: nn.Dropout(1.5), ValueError, r"\[Dropout\] got p = 1.5"),
    (lambda: nn.Dropout2d()(pydl.ones((3,))), ValueError, r"\[dropout2d\] got input of shape \(3,\)"),
    (lambda: nn.RReLU(0.5, 0.1), ValueError, r"\[RReLU\]"),
    (lambda: nn.Softmax2d()(pydl.ones((3, 4))), ValueError, r"\[Softmax2d\]"),
    (lambda: nn.Embedding(3, 2)(pydl.asarray([3])), IndexError, r"\[embedding\] index 3"),
    (lambda: nn.Embedding(3, 2)(pydl.ones((2,))), TypeError, r"\[embedding\] got indices of float32"),
    (
        lambda: nn.EmbeddingBag(3, 2)(pydl.asarray([0, 1])),
        ValueError,
        r"\[embedding_bag\] got input \(2,\) and offsets",
    ),
    (lambda: nn.EmbeddingBag(3, 2)(pydl.asarray([0, 1]), pydl.asarray([1])), ValueError, "begin with 0"),
    (
        lambda: nn.EmbeddingBag(3, 2)(pydl.asarray([0, 1]), pydl.asarray([0.0])),
        TypeError,
        "got offsets of pydl.float32",
    ),
    (lambda: nn.EmbeddingBag(3, 2, mode="min"), ValueError, r"\[EmbeddingBag\] got mode 'min'"),
    (lambda: nn.MultiheadAttention(8, 3), ValueError, r"\[MultiheadAttention\] got embed_dim 8 and num_heads 3"),
    (lambda: nn.MultiheadAttention(4, 2)(X, X, X[:1]), ValueError, r"\[multi_head_attention\].*keys and values alike"),
    (lambda: nn.MultiheadAttention(6, 2)(X, X, X), ValueError, r"\[multi_head_attention\].*embed_dim = 6"),
    (
        lambda: nn.MultiheadAttention(4, 2)(X, X, X, attn_mask=pydl.ones((3, 3))),
        ValueError,
        r"attn_mask of shape \(3, 3\), expected \(2, 2\)",
    ),
    (
        lambda: nn.MultiheadAttention(4, 2)(X, X, X, key_padding_mask=pydl.ones((3, 2), dtype=pydl.int64)),
        TypeError,
        r"key_padding_mask of pydl.int64",
    ),
    (
        lambda: F.scaled_dot_product_attention(X, X, X, pydl.ones((3, 3)), is_causal=True),
        ValueError,
        r"\[scaled_dot_product_attention\] got a mask and is_causal",
    ),
    (lambda: F.scaled_dot_product_attention(X, X[..., :3], X), ValueError, r"\[scaled_dot_product_attention\]"),
    (lambda: nn.TransformerEncoderLayer(8, 2, activation="swish"), ValueError, r"got activation 'swish'"),
    (lambda: nn.Transformer(8, 2, 1, 1, 8)(X, X), ValueError, r"\[Transformer\] got src \(2, 3, 4\)"),
    (lambda: F.one_hot(pydl.ones((2,))), TypeError, r"\[one_hot\] got pydl.float32"),
    (lambda: F.one_hot(pydl.asarray([4]), 3), ValueError, r"\[one_hot\] got numbers from 4 to 4, expected 0 to 2"),
    (lambda: F.cdist(X, X[..., :3]), ValueError, r"\[cdist\]"),
    (lambda: F.pdist(X), ValueError, r"\[pdist\]"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES, ids=[m[2] for m in MISTAKES])
def test_mistakes_say_what_to_do(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
