"""Layers and functions against PyTorch: one row per case."""

from __future__ import annotations

import numpy as np
import pytest

import pydl
from torch_oracle import Case, case_id, compare, fixed, flags, given, real, whole

PAD = [
    ("reflect", (3, 5), (2, 1)),
    ("reflect", (2, 3, 5), (4, 0)),
    ("reflect", (3, 5, 4), (1, 2, 4, 3)),
    ("reflect", (2, 3, 5, 4), (0, 3, 0, 4)),
    ("reflect", (2, 4, 5, 3), (1, 0, 2, 2, 3, 1)),
    ("reflect", (2, 2, 4, 5, 3), (2, 1, 2, 2, 3, 1)),
    ("replicate", (3, 5), (7, 1)),
    ("replicate", (2, 3, 5), (0, 6)),
    ("replicate", (3, 5, 4), (5, 2, 4, 3)),
    ("replicate", (2, 3, 5, 4), (1, -1, -2, 4)),
    ("replicate", (2, 2, 4, 5, 3), (2, 1, 2, 2, 3, 5)),
    ("circular", (3, 5), (5, 1)),
    ("circular", (2, 3, 5), (2, 3)),
    ("circular", (2, 3, 5, 4), (1, 4, 5, 0)),
    ("circular", (2, 2, 4, 5, 3), (2, 1, 2, 2, 3, 1)),
    ("circular", (2, 3, 5), (-1, 2)),
    ("reflect", (2, 3, 5), (-1, 2)),
    ("constant", (3,), (1, 2)),
    ("constant", (2, 3, 4), (1, -1, -2, 3, 0, 1)),
    ("constant", (2, 3, 4, 5), (-1, -1)),
]  # fmt: skip

N = "nn."
F = "nn.functional."
MASK = flags(5, 7)
MHA = [
    # constructor, inputs, arguments
    ({}, (real(5, 2, 8), real(7, 2, 8), real(7, 2, 8)), {}),
    ({"bias": False}, (real(5, 2, 8), real(7, 2, 8), real(7, 2, 8)), {"average_attn_weights": False}),
    ({"batch_first": True}, (real(2, 5, 8), real(2, 7, 8), real(2, 7, 8)), {"need_weights": False}),
    ({}, (real(5, 8), real(7, 8), real(7, 8)), {}),
    ({"batch_first": True}, (real(5, 8), real(7, 8), real(7, 8)), {"attn_mask": fixed(5, 7)}),
    ({"kdim": 6, "vdim": 3}, (real(5, 2, 8), real(7, 2, 6), real(7, 2, 3)), {}),
    ({"kdim": 6, "bias": False}, (real(5, 2, 8), real(7, 2, 6), real(7, 2, 8)), {"need_weights": False}),
    ({"add_bias_kv": True}, (real(5, 2, 8), real(7, 2, 8), real(7, 2, 8)), {"attn_mask": MASK}),
    ({"add_zero_attn": True}, (real(5, 2, 8), real(7, 2, 8), real(7, 2, 8)), {"attn_mask": fixed(8, 5, 7)}),
    (
        {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
        (real(2, 5, 8), real(2, 7, 8), real(2, 7, 8)),
        {"attn_mask": flags(8, 5, 7), "key_padding_mask": flags(2, 7), "average_attn_weights": False},
    ),
    (
        {"add_zero_attn": True},
        (real(5, 2, 8), real(7, 2, 8), real(7, 2, 8)),
        {"attn_mask": fixed(5, 7), "key_padding_mask": fixed(2, 7)},
    ),
    ({"add_bias_kv": True}, (real(5, 8), real(7, 8), real(7, 8)), {"key_padding_mask": flags(7)}),
]
CAUSAL = given(np.triu(np.full((5, 5), -np.inf), 1))
LAYER = {"dim_feedforward": 12, "dropout": 0.0}

CASES = [
    *[Case(F + "pad", (real(*shape),), {"pad": widths, "mode": mode}) for mode, shape, widths in PAD],
    Case(F + "pad", (real(2, 3),), {"pad": (1, 2), "value": 0.5}),
    *[
        Case(f"{N}{kind}Pad{d}d", (real(*shape),), arguments=(padding, *extra))
        for kind, extra in [("Constant", (0.5,)), *((k, ()) for k in ("Zero", "Reflection", "Replication", "Circular"))]
        for d in (1, 2, 3)
        for shape in [(2, 3, *(4, 5, 6)[:d]), (3, *(4, 5, 6)[:d])]
        for padding in [2, tuple(range(1, 2 * d + 1))[::-1] if d < 3 else (1, 2, 3, 0, 2, 1)]
    ],
    *[Case(N + name, (real(*s),))
      for name in ("LogSigmoid", "Tanhshrink", "Softsign", "Mish", "SELU") for s in [(), (3, 4)]],
    *[Case(N + name, (real(3, 4),)) for name in ("Hardshrink", "Softshrink", "Hardtanh", "Hardswish", "ReLU6", "CELU")],
    Case(N + "Threshold", (real(3, 4),), arguments=(0.1, 20.0)),
    Case(N + "RReLU", (real(3, 4),), arguments=(0.2, 0.6), train=False),
    Case(F + "rrelu", (real(3, 4),), {"lower": 0.1, "upper": 0.2}),
    *[Case(N + "PReLU", (real(*s),), arguments=a) for s, a in [((3, 4), ()), ((3, 4, 2), (4,)), ((), ()), ((4,), ())]],
    Case(N + "Softmax2d", (real(2, 3, 4, 5),)),
    Case(N + "Softmax2d", (real(3, 4, 5),)),
    Case(N + "Softmax", (real(2, 3, 4, 5),), arguments=(3,)),
    Case(N + "Softmin", (real(2, 3),), arguments=(1,)),
    Case(N + "LogSoftmax", (real(2, 3),), arguments=(-1,)),
    Case(N + "GLU", (real(2, 6, 3),), arguments=(1,)),
    *[Case(N + name, (real(3, 4),), arguments=(0.5,), train=False)
      for name in ("Dropout", "AlphaDropout")],
    Case(N + "Dropout2d", (real(2, 3, 4, 4),), train=False),
    Case(N + "Dropout", (real(3, 4),), arguments=(0.0,)),
    Case(N + "Identity", (real(3, 4),), arguments=(1,), options={"unused": 2}),
    *[Case(N + "Bilinear", (real(*s, 3), real(*s, 4)), arguments=(3, 4, 5), options=o)
      for s in [(), (6,), (2, 6)] for o in [{}, {"bias": False}]],
    *[Case(F + "linear", inputs) for inputs in [
        (real(3, 4), real(4)), (real(4), real(4), real()), (real(2, 3, 4), real(5, 4), real(5)),
        (real(4), real(5, 4))]],
    Case(N + "Flatten", (real(2, 3, 4, 5),)),
    Case(N + "Flatten", (real(2, 3, 4, 5),), arguments=(2, 3)),
    Case(N + "Unflatten", (real(2, 12),), arguments=(1, (3, 4))),
    *[Case(N + "CosineSimilarity", (real(*a), real(*b)), options=o)
      for a, b, o in [((4, 5), (4, 5), {}), ((4, 5, 2), (4, 5, 2), {"dim": -1}), ((4, 5), (1, 5), {"eps": 1e-2}),
                      ((5,), (5,), {"dim": 0})]],
    *[Case(N + "PairwiseDistance", (real(*s, 5), real(*s, 5)), options=o)
      for s in [(), (4,)] for o in [{}, {"p": 1.0}, {"p": 3.0, "keepdim": True}, {"p": np.inf, "eps": 0.0}]],
    Case(F + "pairwise_distance", (real(4, 5), real(1, 5)), {"p": 2.0}),
    *[Case(F + "normalize", (real(4, 5),), {"p": p, "dim": d}) for p in (1.0, 2.0, 3.0, np.inf) for d in (0, 1)],
    *[Case(F + "pdist", (real(5, 3),), {"p": p}, twice=False) for p in (0.0, 1.0, 2.0, 3.0, np.inf)],
    *[Case("cdist", (real(*a), real(*b)), {"p": p}, twice=False)
      for a, b in [((5, 3), (4, 3)), ((2, 5, 3), (2, 4, 3)), ((2, 1, 5, 3), (3, 4, 3))]
      for p in (1.0, 2.0, 3.0, np.inf)],
    Case("cdist", (real(30, 4), real(40, 4)), twice=False),
    Case(F + "one_hot", (whole(3, 2, high=4),), {"num_classes": 6}),
    Case(F + "one_hot", (given([0, 3, 1]),)),
    *[Case(N + "Embedding", (whole(*s, high=7),), arguments=(7, 3), options=o)
      for s in [(), (5,), (2, 4)]
      for o in [{}, {"padding_idx": 2}, {"padding_idx": -1, "scale_grad_by_freq": True}]],
    Case(N + "Embedding", (whole(9, high=7),), arguments=(7, 3), options={"max_norm": 1.0}, twice=False),
    Case(N + "Embedding", (whole(9, high=7),), arguments=(7, 3), options={"max_norm": 1.0, "norm_type": 1.0},
         twice=False),
    *[Case(N + "EmbeddingBag", (whole(4, 3, high=7),), arguments=(7, 5), options={"mode": m, **o}, twice=False)
      for m in ("sum", "mean", "max") for o in [{}, {"padding_idx": 1}, {"max_norm": 1.0}]],
    *[Case(N + "EmbeddingBag", (whole(9, high=7), given(offsets)), arguments=(7, 5),
           options={"mode": m, "include_last_offset": last, **o}, twice=False)
      for m in ("sum", "mean", "max") for o in [{}, {"padding_idx": 1}]
      for offsets, last in [([0, 2, 2, 7], False), ([0, 4, 9], True), ([0], False)]],
    Case(N + "EmbeddingBag", (whole(9, high=7), given([0, 3])), {"per_sample_weights": real(9)}, (7, 5),
         {"mode": "sum"}, twice=False),
    Case(F + "embedding_bag", (whole(4, 3, high=7), real(7, 5)), {"mode": "sum", "per_sample_weights": real(4, 3)},
         twice=False),
    Case(N + "AdaptiveLogSoftmaxWithLoss", (real(6, 16), given([0, 19, 3, 7, 4, 12])), arguments=(16, 20, [4, 8]),
         options={"div_value": 2.0}),
    Case(N + "AdaptiveLogSoftmaxWithLoss", (real(16), given(9)), arguments=(16, 20, [4, 8, 15]),
         options={"head_bias": True, "div_value": 2.0}),
    *[Case(N + "MultiheadAttention", inputs, keywords, (8, 4), options) for options, inputs, keywords in MHA],
    *[Case(F + "scaled_dot_product_attention", (real(2, 3, 5, 4), real(2, 3, 7, 4), real(2, 3, 7, 6)), keywords)
      for keywords in [{}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": flags(5, 7, p=0.8)},
                       {"attn_mask": fixed(2, 1, 5, 7)}, {"attn_mask": real(5, 7)},
                       {"attn_mask": given(np.arange(35).reshape(5, 7) % 7 > np.arange(5)[:, None] + 2)}]],
    Case(F + "scaled_dot_product_attention", (real(5, 4), real(7, 4), real(7, 6))),
    Case(F + "scaled_dot_product_attention", (real(3, 5, 4), real(3, 7, 4), real(3, 7, 6)), {"is_causal": True}),
    Case(F + "scaled_dot_product_attention", (real(2, 6, 5, 4), real(2, 2, 5, 4), real(2, 2, 5, 4)),
         {"enable_gqa": True, "is_causal": True}),
    *[Case(N + "TransformerEncoderLayer", (real(*s),), keywords, (8, 2), {**LAYER, **options}, loose=10)
      for s, keywords, options in [
          ((5, 3, 8), {}, {}), ((5, 8), {}, {"norm_first": True}),
          ((3, 5, 8), {}, {"batch_first": True, "bias": False}),
          ((5, 3, 8), {"src_mask": CAUSAL}, {"activation": "gelu", "norm_first": True}),
          ((5, 3, 8), {"src_mask": flags(5, 5), "src_key_padding_mask": given([[False] * 3 + [True] * 2] * 3)},
           {"layer_norm_eps": 1e-3})]],
    *[Case(N + "TransformerDecoderLayer", (real(*s), real(*m)), keywords, (8, 2), {**LAYER, **options}, loose=10)
      for s, m, keywords, options in [
          ((5, 3, 8), (4, 3, 8), {}, {}), ((5, 8), (4, 8), {}, {"norm_first": True}),
          ((3, 5, 8), (3, 4, 8), {"tgt_mask": CAUSAL, "memory_mask": fixed(5, 4)},
           {"batch_first": True, "bias": False}),
          ((5, 3, 8), (4, 3, 8), {"memory_key_padding_mask": given([[False, False, True, True]] * 3)},
           {"activation": "gelu"})]],
    Case(N + "Transformer", (real(4, 3, 8), real(5, 3, 8)), {"tgt_mask": CAUSAL}, (8, 2, 2, 2, 12, 0.0), loose=30),
    Case(N + "Transformer", (real(3, 4, 8), real(3, 5, 8)), {}, (8, 2, 1, 2, 12, 0.0),
         {"batch_first": True, "norm_first": True, "bias": False, "activation": "gelu"}, loose=30),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.filterwarnings("ignore")
def test_layer_or_function_is_pytorchs(case: Case, dtype: str, rng: np.random.Generator) -> None:
    if case.train:
        compare(case, dtype, rng)
    if case.is_module and case.evaluate and dtype == "float64":
        compare(case, dtype, rng, training=False)


def test_embedding_bag_scaled_by_frequency() -> None:
    """Each row's gradient is divided by that row's own count, as Embedding does it; PyTorch's bag takes another's."""
    ids = pydl.asarray([[1, 1, 1], [2, 1, 0], [1, 2, 3]])
    weight = pydl.ones((5, 2)).requires_grad_()
    pydl.nn.functional.embedding_bag(ids, weight, mode="sum", scale_grad_by_freq=True).sum().backward()
    assert weight.grad.numpy().tolist() == [[1.0, 1.0]] * 4 + [[0.0, 0.0]]


RECURRENT = [
    *[
        Case(N + kind, (real(*shape),), arguments=(4, 5), options=options)
        for kind in ("RNN", "GRU", "LSTM")
        for shape, options in [
            ((4, 3, 4), {}),
            ((4, 4), {"bias": False}),
            ((3, 4, 4), {"batch_first": True, "bidirectional": True, "num_layers": 2}),
        ]
    ],
    Case(N + "RNN", (real(4, 3, 4), real(1, 3, 5)), arguments=(4, 5), options={"nonlinearity": "relu"}),
    Case(N + "GRU", (real(4, 4), real(2, 5)), arguments=(4, 5), options={"num_layers": 2}),
    Case(N + "LSTM", (real(4, 3, 4), (real(2, 3, 5), real(2, 3, 5))), arguments=(4, 5),
         options={"bidirectional": True}),
    *[Case(N + kind, (real(*shape),), arguments=(4, 5)) for kind in ("RNNCell", "GRUCell", "LSTMCell")
      for shape in [(3, 4), (4,)]],
    Case(N + "RNNCell", (real(3, 4), real(3, 5)), arguments=(4, 5), options={"nonlinearity": "relu", "bias": False}),
    Case(N + "GRUCell", (real(4), real(5)), arguments=(4, 5), options={"bias": False}),
    Case(N + "LSTMCell", (real(3, 4), (real(3, 5), real(3, 5))), arguments=(4, 5)),
]  # fmt: skip


@pytest.mark.parametrize("case", RECURRENT, ids=case_id)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_recurrent_layer_is_pytorchs_to_the_second_derivative(case: Case, dtype: str, rng: np.random.Generator) -> None:
    compare(case, dtype, rng)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_second_derivatives_with_lengths_states_and_dropout(kind: str, rng: np.random.Generator) -> None:
    """A gradient penalty: its own gradient against differences of the penalty, under one dropout mask."""
    layer = getattr(pydl.nn, kind)(3, 4, num_layers=2, dropout=0.4, bidirectional=True, dtype=pydl.float64)
    x = pydl.asarray(rng.normal(size=(4, 2, 3))).requires_grad_()
    h = (x[:, :, :1] * pydl.ones((1, 1, 4), dtype=pydl.float64)).detach().requires_grad_()
    weight = layer.weight_hh_l0

    def penalty(x: pydl.Tensor, h: pydl.Tensor, _: pydl.Tensor) -> pydl.Tensor:
        with pydl.enable_grad():
            pydl.manual_seed(1)
            start = h * 2.0 * x.sum()  # depends on x as well, which must count once
            y = layer(x, (start, start) if kind == "LSTM" else start, lengths=[4, 2])[0]
            (g,) = pydl.autograd.grad((y * y).sum(), [x], create_graph=True)
            return (g * g).sum()

    assert pydl.autograd.gradcheck(penalty, (x, h, weight))


@pytest.mark.parametrize(
    ("shape", "options"),
    [((6,), {}), ((), {"bias": True}), ((6,), {"out_features": (2, 3), "bias": True, "label_smoothing": 0.1})],
)
def test_linear_cross_entropy(shape: tuple[int, ...], options: dict, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    if not hasattr(torch.nn, "LinearCrossEntropyLoss"):
        pytest.skip("this PyTorch has no LinearCrossEntropyLoss")
    target = whole(*shape, *options.get("out_features", ()), high=5)
    case = Case(N + "LinearCrossEntropyLoss", (real(*shape, 4), target), arguments=(4, 5), options=options)
    compare(case, "float64", rng)
