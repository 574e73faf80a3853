"""Sizes of zero, scalars, other dtypes, rare arguments: layers and functions against PyTorch where they are easy to get
wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from torch_oracle import Case, Draw, case_id, compare, fixed, flags, given, real, whole

N = "nn."
F = "nn.functional."


def log_probabilities(*shape: int) -> Draw:
    def draw(rng: np.random.Generator) -> np.ndarray:
        x = rng.normal(size=shape)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    return Draw(draw, True)


LOG_PROBS = log_probabilities(10, 2, 4), log_probabilities(10, 4)

CASES = [
    # zero sizes
    *[
        Case(F + n, (real(0, 3), real(0, 3)), {"reduction": r})
        for n in (
            "mse_loss",
            "l1_loss",
            "smooth_l1_loss",
            "huber_loss",
            "hinge_embedding_loss",
            "poisson_nll_loss",
            "kl_div",
        )
        for r in ("none", "sum")
    ],
    Case(F + "binary_cross_entropy", (real(0, 3), fixed(0, 3)), {"reduction": "sum"}),
    Case(F + "nll_loss", (real(0, 3), whole(0, high=3)), {"reduction": "sum"}),
    Case(F + "nll_loss", (real(0, 3, 2), whole(0, 2, high=3)), {"reduction": "none"}),
    Case(F + "multi_margin_loss", (real(0, 3), whole(0, high=3)), {"reduction": "none"}, twice=False),
    Case(F + "cosine_embedding_loss", (real(0, 3), real(0, 3), fixed(0)), {"reduction": "none"}),
    Case(F + "batch_norm", (real(0), fixed(0), fixed(0), None, None), {"training": True}, twice=False),
    Case(F + "pad", (real(0, 3, 4),), {"pad": (1, 2), "mode": "reflect"}),
    Case(F + "pad", (real(0, 3, 4, 4),), {"pad": (1, 2, 0, 1), "mode": "replicate"}),
    Case(F + "pad", (real(0, 3, 4),), {"pad": (1, 2), "mode": "circular"}),
    Case(F + "pad", (real(2, 0),), {"pad": (1, 2)}),
    Case(F + "pad", (real(2, 3),), {"pad": ()}),
    Case(F + "pad", (real(2, 3, 4),), {"pad": (0, 0), "mode": "reflect"}),
    Case(F + "pad", (real(2, 3, 4),), {"pad": (-1, 1), "mode": "reflect"}),
    Case(F + "pad", (real(2, 3, 4),), {"pad": (-1, 2), "mode": "circular"}),
    Case(N + "Embedding", (whole(0, high=3),), arguments=(3, 2)),
    Case(N + "EmbeddingBag", (whole(0, high=3), given(np.zeros(0, np.int64))), arguments=(3, 2), twice=False),
    Case(
        N + "EmbeddingBag",
        (whole(0, high=3), given(np.zeros(2, np.int64))),
        arguments=(3, 2),
        options={"mode": "max"},
        twice=False,
    ),
    Case(N + "EmbeddingBag", (whole(0, 4, high=3),), arguments=(3, 2), twice=False),
    Case(N + "Linear", (real(0, 4),), arguments=(4, 5)),
    Case(N + "Bilinear", (real(0, 4), real(0, 3)), arguments=(4, 3, 5)),
    Case(N + "MultiheadAttention", (real(5, 0, 8), real(5, 0, 8), real(5, 0, 8)), arguments=(8, 2)),
    Case(N + "TransformerEncoderLayer", (real(5, 0, 8),), arguments=(8, 2, 16, 0.0)),
    Case(N + "LSTM", (real(5, 0, 4),), arguments=(4, 3), twice=False),
    Case(N + "PReLU", (real(0, 3),)),
    Case(N + "GLU", (real(0, 4),)),
    Case(N + "Softmax", (real(0, 4),), arguments=(1,)),
    Case(N + "CosineSimilarity", (real(0, 4), real(0, 4))),
    Case(N + "PairwiseDistance", (real(0, 4), real(0, 4))),
    Case(F + "normalize", (real(0, 4),)),
    Case(F + "one_hot", (whole(0, high=3),), {"num_classes": 3}),
    Case("cdist", (real(0, 4), real(3, 4)), twice=False),
    Case("cdist", (real(2, 0, 4), real(2, 3, 4)), twice=False),
    # other
    Case(F + "softmax", (real(3, 4),), {"dim": 0}),
    Case(F + "softmin", (real(3, 4),), {"dim": -1}),
    Case(F + "log_softmax", (real(),), {"dim": 0}),
    Case(F + "softplus", (real(3, 4),), {"beta": 2.0, "threshold": 1.0}),
    Case(F + "softplus", (real(3, 4),), {"beta": -1.0}),
    Case(F + "hardtanh", (real(3, 4),), {"min_val": -0.5, "max_val": 0.25}),
    Case(F + "hardtanh", (whole(3, 4, low=-5, high=5),), {"min_val": -1, "max_val": 1}),
    Case(F + "relu6", (whole(3, 4, low=-5, high=9),)),
    Case(F + "relu", (whole(3, 4, low=-5, high=9),)),
    Case(F + "threshold", (whole(3, 4, low=-5, high=9),), {"threshold": 2, "value": -1}),
    Case(F + "celu", (real(3, 4),), {"alpha": -0.5}),
    Case(F + "elu", (real(3, 4),), {"alpha": -0.5}),
    Case(F + "leaky_relu", (real(3, 4),), {"negative_slope": -0.5}),
    Case(F + "prelu", (real(2, 3, 4), real(3))),
    Case(F + "prelu", (real(2, 3, 4), real(1))),
    Case(F + "prelu", (real(), real())),
    Case(F + "prelu", (real(3, 4), real())),
    Case(F + "prelu", (real(5), real(1))),
    Case(F + "glu", (real(2, 6, 3),), {"dim": 1}),
    Case(F + "glu", (real(6),)),
    Case(F + "gelu", (real(3, 4),), {"approximate": "tanh"}),
    Case(F + "mish", (real(),)),
    Case(F + "silu", (real(),)),
    Case(F + "hardswish", (real(3, 4, low=-5, high=5),)),
    Case(F + "hardsigmoid", (real(3, 4, low=-5, high=5),), twice=False, loose=1e3),
    Case(F + "rrelu", (real(3, 4),), {"lower": 0.2, "upper": 0.2, "training": True}),
    Case(F + "cosine_similarity", (real(1, 2, 3), real(2, 1, 3)), {"dim": -1}),
    Case(F + "cosine_similarity", (real(2, 3), real(3)), {"dim": -1}),
    Case(F + "cosine_similarity", (given(np.zeros((2, 3)), True), real(2, 3)), {}, twice=False),
    Case(F + "pairwise_distance", (real(3), real(2, 3)), {"keepdim": True}),
    Case(F + "gaussian_nll_loss", (real(4, 5), real(4, 5), real(4, 5, low=0.1)), {"reduction": "none", "eps": 0.3}),
    Case(F + "gaussian_nll_loss", (real(4, 5), real(4, 5), 0.7)),
    Case(F + "gaussian_nll_loss", (real(), real(), real(low=0.1))),
    Case(F + "margin_ranking_loss", (real(3, 4), real(3, 1), real(1, 4)), {"margin": 0.2}),
    Case(F + "triplet_margin_loss", (real(3, 4), real(1, 4), real(3, 4))),
    Case(F + "bilinear", (real(2, 3, 4), real(2, 3, 5), real(6, 4, 5), real(6))),
    Case(F + "bilinear", (real(4), real(5), real(6, 4, 5))),
    Case(F + "embedding", (whole(2, 3, high=5), real(5, 4)), {"padding_idx": -1}),
    Case(F + "embedding", (given(np.array([[1, 2], [1, 0]])), real(5, 4)), {"scale_grad_by_freq": True}),
    Case(F + "embedding", (given(np.array([[1, 2], [1, 0]], np.int32)), real(5, 4))),
    Case(
        F + "embedding_bag",
        (given(np.array([1, 2, 4, 0], np.int32)), real(5, 4), given(np.array([0, 2], np.int32))),
        {"mode": "max"},
        twice=False,
    ),
    Case(
        F + "embedding_bag",
        (given(np.array([1, 2, 4, 0])), real(5, 4)),
        {"offsets": given(np.array([0, 2])), "mode": "mean", "padding_idx": -1},
        twice=False,
    ),
    Case(
        F + "cross_entropy",
        (real(3, 5), whole(3, high=5)),
        {"weight": fixed(5, low=0.1), "reduction": "sum", "ignore_index": 2},
    ),
    Case(F + "cross_entropy", (real(5), real(5, low=0, high=1)), {"label_smoothing": 0.3}),
    Case(F + "cross_entropy", (real(2, 5, 3), real(2, 5, 3, low=0, high=1)), {"weight": fixed(5, low=0.1)}),
    Case(F + "multilabel_soft_margin_loss", (real(5), whole(5, high=2))),
    Case(F + "multilabel_soft_margin_loss", (real(3, 5), real(3, 5, low=0, high=1)), {"weight": fixed(5)}),
    Case(F + "multilabel_margin_loss", (real(), given(0)), twice=False),
    Case(F + "multi_margin_loss", (real(5), given([3])), {"reduction": "none"}, twice=False),
    Case(F + "soft_margin_loss", (real(3, 4), whole(3, 4, low=0, high=2))),
    Case(F + "hinge_embedding_loss", (real(3, 4), given(np.array([[1, -1, 0, 2]] * 3))), {"margin": 0.5}),
    Case(F + "poisson_nll_loss", (real(3, 4, low=0.1), real(3, 4, low=0, high=4)), {"log_input": False, "full": True}),
    Case(
        F + "scaled_dot_product_attention",
        (real(2, 4, 5, 3), real(1, 4, 6, 3), real(1, 4, 6, 3)),
        {"attn_mask": flags(5, 6, p=0.7)},
    ),
    Case(
        F + "scaled_dot_product_attention",
        (real(2, 4, 5, 3), real(2, 4, 6, 3), real(2, 4, 6, 3)),
        {"attn_mask": flags(2, 1, 1, 6, p=0.7)},
    ),
    Case(
        F + "ctc_loss",
        (LOG_PROBS[0], given([[1, 2], [3, 1]]), given([10, 9]), given([2, 1])),
        {"reduction": "none"},
        twice=False,
    ),
    Case(F + "ctc_loss", (LOG_PROBS[1], given([1, 2]), given([10]), given([2])), {"reduction": "none"}, twice=False),
    Case(N + "CrossEntropyLoss", (real(3, 5, 2, 2), whole(3, 2, 2, high=5)), arguments=(fixed(5, low=0.1),)),
    Case(N + "Flatten", (real(3),), options={"start_dim": 0}),
    Case(N + "Unflatten", (real(3, 6),), arguments=(-1, (2, -1))),
    Case(
        N + "MultiheadAttention",
        (real(5, 2, 8), real(7, 2, 8), real(7, 2, 8)),
        {"need_weights": False, "is_causal": False},
        (8, 2),
        {"add_zero_attn": True},
    ),
    Case(N + "RNN", (real(5, 2, 4), real(2, 2, 3)), arguments=(4, 3, 2, "relu"), twice=False),
    Case(N + "LSTM", (real(2, 5, 4),), arguments=(4, 3, 1, True, True), twice=False),
    Case(F + "dropout", (real(3, 4),), {"p": 0.0}),
    Case(F + "dropout", (real(3, 4),), {"p": 1.0}),
    Case(F + "dropout2d", (real(2, 3, 4, 4),), {"training": False}),
    Case(F + "alpha_dropout", (real(3, 4),), {"p": 1.0, "training": True}),
    Case(F + "feature_alpha_dropout", (real(3, 4, 2),), {"p": 0.0, "training": True}),
    Case(F + "logsigmoid", (real(3, 4, low=-50, high=50),)),
    Case(F + "tanhshrink", (real(3, 4),)),
    Case(F + "softsign", (real(3, 4),)),
    Case(F + "softshrink", (real(3, 4),), {"lambd": 0.3}),
]

L, S, B, E, H = 5, 7, 2, 8, 4
CAUSAL = given(np.triu(np.full((L, S), -np.inf), 1))
STATIC = {"static_k": real(B * H, S, E // H), "static_v": real(B * H, S, E // H)}


def attention(batched: bool = True, **keywords: Any) -> Case:
    shape = (B, E) if batched else (E,)
    inputs = (real(L, *shape), real(S, *shape), real(S, *shape), E, H, real(3 * E, E), real(3 * E))
    common = {"bias_k": None, "bias_v": None, "add_zero_attn": False, "dropout_p": 0.0, "out_proj_weight": real(E, E)}
    return Case(F + "multi_head_attention_forward", inputs, {**common, "out_proj_bias": real(E), **keywords})


SEPARATE = {
    "use_separate_proj_weight": True,
    "q_proj_weight": real(E, E),
    "k_proj_weight": real(E, E),
    "v_proj_weight": real(E, E),
}
ATTENTION = [
    attention(),
    attention(False),
    attention(bias_k=real(1, 1, E), bias_v=real(1, 1, E)),
    attention(add_zero_attn=True, training=False),
    attention(attn_mask=fixed(L, S)),
    attention(attn_mask=flags(B * H, L, S)),
    attention(key_padding_mask=flags(B, S)),
    attention(False, key_padding_mask=flags(S)),
    attention(need_weights=False),
    attention(average_attn_weights=False),
    attention(False, average_attn_weights=False),
    attention(**STATIC),
    attention(need_weights=False, **STATIC),
    attention(attn_mask=CAUSAL, is_causal=True),
    attention(attn_mask=CAUSAL, is_causal=True, need_weights=False),
    attention(attn_mask=flags(L, S), key_padding_mask=fixed(B, S)),
    attention(out_proj_bias=None),
    attention(**SEPARATE),
]


@pytest.mark.parametrize("case", [*CASES, *ATTENTION], ids=case_id)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.filterwarnings("ignore")
def test_edge_is_pytorchs(case: Case, dtype: str, rng: np.random.Generator) -> None:
    compare(case, dtype, rng)
