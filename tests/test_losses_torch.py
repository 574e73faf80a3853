"""Every loss against PyTorch: one row per case, as a function and as a module."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from torch_oracle import Case, Draw, case_id, compare, fixed, given, real, signs, whole

REDUCTIONS = ("mean", "sum", "none")
PROBABILITY = {"low": 0.02, "high": 0.98}


def log_probabilities(*shape: int, axis: int = 1, grad: bool = True) -> Draw:
    def draw(rng: np.random.Generator) -> np.ndarray:
        x = rng.normal(size=shape)
        return x - np.log(np.exp(x).sum(axis, keepdims=True))

    return Draw(draw, grad)


def probabilities(*shape: int, grad: bool = False) -> Draw:
    return Draw(lambda rng: rng.dirichlet(np.ones(shape[-1]), shape[:-1]), grad)


# Of floats: PyTorch takes the logarithm of integers in float32.
COUNTS = Draw(lambda rng: rng.integers(0, 7, (4, 5)).astype(float))

# function's name, module's name, inputs, options that both take, second gradients
ROWS = [
    *[("l1_loss", "L1Loss", (real(*s), real(*s)), {}, True) for s in [(), (3,), (4, 5), (2, 3, 4)]],
    *[("mse_loss", "MSELoss", (real(*s), real(*s)), {}, True) for s in [(), (3,), (4, 5), (2, 3, 4)]],
    *[
        ("smooth_l1_loss", "SmoothL1Loss", (real(4, 5), real(4, 5)), {"beta": b}, True)
        for b in (0.0, 0.5, 1.0, 9.0)
    ],
    *[("huber_loss", "HuberLoss", (real(4, 5), real(4, 5)), {"delta": d}, True) for d in (0.3, 1.0, 9.0)],
    ("binary_cross_entropy", "BCELoss", (real(4, 5, **PROBABILITY), real(4, 5, low=0, high=1)), {}, True),
    ("binary_cross_entropy", "BCELoss", (real(**PROBABILITY), fixed(low=0, high=1)), {}, True),
    (
        "binary_cross_entropy",
        "BCELoss",
        (real(4, 5, **PROBABILITY), fixed(4, 5, low=0, high=1)),
        {"weight": fixed(4, 5, low=0.1)},
        True,
    ),
    (
        "binary_cross_entropy",
        "BCELoss",
        (real(4, 5, **PROBABILITY), fixed(4, 5, low=0, high=1)),
        {"weight": fixed(5, low=0.1)},
        True,
    ),
    *[
        (
            "binary_cross_entropy_with_logits",
            "BCEWithLogitsLoss",
            (real(*shape, low=-6, high=6), real(*shape, low=0, high=1)),
            options,
            True,
        )
        for shape, options in [
            ((), {}),
            ((4, 5), {}),
            ((4, 5), {"weight": fixed(5, low=0.1)}),
            ((4, 5), {"pos_weight": fixed(5, low=0.1, high=3)}),
            ((2, 4, 5), {"weight": fixed(2, 1, 5, low=0.1), "pos_weight": fixed(4, 5, low=0.1, high=3)}),
        ]
    ],
    *[
        ("nll_loss", "NLLLoss", (log_probabilities(*shape, axis=0 if len(shape) == 1 else 1), target), options, True)
        for shape, target in [
            ((6,), given(2)),
            ((5, 6), whole(5, high=6)),
            ((5, 6, 3), whole(5, 3, high=6)),
            ((5, 6, 3, 2), whole(5, 3, 2, high=6)),
            ((2, 6, 3, 2, 2), whole(2, 3, 2, 2, high=6)),
        ]
        for options in [{}, {"weight": fixed(6, low=0.1)}, {"weight": fixed(6, low=0.1), "ignore_index": 1}]
    ],
    ("nll_loss", "NLLLoss", (log_probabilities(4, 3), given([0, -1, 2, 2])), {"ignore_index": -1}, True),
    *[
        ("cross_entropy", "CrossEntropyLoss", (real(*shape), target), options, True)
        for shape, target in [
            ((6,), whole(high=6)),
            ((5, 6), whole(5, high=6)),
            ((5, 6, 3, 2), whole(5, 3, 2, high=6)),
            ((5, 6), real(5, 6, low=0, high=1)),
        ]
        for options in [{}, {"weight": fixed(6, low=0.1), "label_smoothing": 0.2}]
    ],
    ("cross_entropy", "CrossEntropyLoss", (real(4, 3), given([0, -1, 2, 2])), {"ignore_index": -1}, True),
    ("kl_div", "KLDivLoss", (log_probabilities(4, 3), probabilities(4, 3, grad=True)), {}, True),
    ("kl_div", "KLDivLoss", (log_probabilities(3, axis=0), probabilities(3)), {}, True),
    ("kl_div", "KLDivLoss", (log_probabilities(4, 3), log_probabilities(4, 3)), {"log_target": True}, True),
    *[
        ("poisson_nll_loss", "PoissonNLLLoss", (real(4, 5, low=0.2), COUNTS), options, True)
        for options in [{}, {"log_input": False}, {"full": True}, {"log_input": False, "full": True, "eps": 1e-3}]
    ],
    ("poisson_nll_loss", "PoissonNLLLoss", (real(4, 5), real(4, 5, low=1.1, high=5)), {"full": True}, True),
    *[
        ("gaussian_nll_loss", "GaussianNLLLoss", (real(4, 5), real(4, 5), real(*shape, low=0.1)), options, True)
        for shape in [(4, 5), (4, 1), (4,), (1, 5)]
        for options in [{}, {"full": True, "eps": 0.5}]
    ],
    ("soft_margin_loss", "SoftMarginLoss", (real(4, 5), signs(4, 5)), {}, True),
    ("multilabel_soft_margin_loss", "MultiLabelSoftMarginLoss", (real(4, 5), whole(4, 5, high=2)), {}, True),
    (
        "multilabel_soft_margin_loss",
        "MultiLabelSoftMarginLoss",
        (real(4, 5), whole(4, 5, high=2)),
        {"weight": fixed(5, low=0.1)},
        True,
    ),
    *[
        ("margin_ranking_loss", "MarginRankingLoss", (real(*s), real(*s), signs(*s)), {"margin": m}, True)
        for s in [(), (7,), (3, 4)]
        for m in (0.0, 0.7)
    ],
    *[("hinge_embedding_loss", "HingeEmbeddingLoss", (real(4, 5), signs(4, 5)), {"margin": m}, True)
      for m in (1.0, 0.3)],
    *[
        ("cosine_embedding_loss", "CosineEmbeddingLoss", (real(*n, 5), real(*n, 5), signs(*n)), {"margin": m}, True)
        for n in [(), (6,)]
        for m in (0.0, 0.3)
    ],
    *[
        ("multi_margin_loss", "MultiMarginLoss", (real(*n, 5), whole(*n, high=5)), options, False)
        for n in [(), (6,)]
        for options in [{}, {"p": 2, "margin": 0.5}, {"weight": fixed(5, low=0.1)}]
    ],
    ("multilabel_margin_loss", "MultiLabelMarginLoss", (real(5), given([3, 0, -1, 2, 1])), {}, False),
    (
        "multilabel_margin_loss",
        "MultiLabelMarginLoss",
        (real(4, 3), given([[0, -1, 1], [2, 1, -1], [-1, 0, 2], [1, 0, 2]])),
        {},
        False,
    ),
    *[
        ("triplet_margin_loss", "TripletMarginLoss", (real(*s), real(*s), real(*s)), options, True)
        for s in [(5,), (4, 5), (2, 3, 5)]
        for options in [{}, {"margin": 2.0, "p": 1.0}, {"p": 3.0, "swap": True}, {"eps": 1e-3, "swap": True}]
    ],
    ("triplet_margin_with_distance_loss", "TripletMarginWithDistanceLoss", (real(4, 5),) * 1 + (real(4, 5), real(4, 5)),
     {"swap": True, "margin": 2.0}, True),
]  # fmt: skip


def cases() -> list[Case]:
    made = []
    for (function, module, inputs, options, twice), reduction in itertools.product(ROWS, REDUCTIONS):
        if function == "kl_div" and reduction == "mean":
            continue  # PyTorch warns of it
        both = {**options, "reduction": reduction}
        made.append(Case("nn.functional." + function, inputs, both, twice=twice))
        made.append(Case("nn." + module, inputs, options=both, twice=twice, evaluate=False))
    made.append(
        Case("nn.functional.kl_div", (log_probabilities(4, 3), probabilities(4, 3)), {"reduction": "batchmean"})
    )
    return made


@pytest.mark.parametrize("case", cases(), ids=case_id)
def test_loss_is_pytorchs(case: Case, rng: np.random.Generator) -> None:
    for dtype in ("float64",) if case.is_module else ("float64", "float32"):
        compare(case, dtype, rng)


WEIGHTED = [("mse_loss", {}), ("l1_loss", {}), ("huber_loss", {"delta": 0.7})]


@pytest.mark.parametrize(("name", "options"), WEIGHTED)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("learned", [False, True])
def test_weighted_regression_losses(
    name: str, options: dict, reduction: str, learned: bool, rng: np.random.Generator
) -> None:
    weight = real(4, 5, low=0.1, grad=learned)
    case = Case(
        "nn.functional." + name, (real(4, 5), real(4, 5)), {**options, "weight": weight, "reduction": reduction}
    )
    compare(case, "float64", rng)


@pytest.mark.parametrize("flags", list(itertools.product((None, True, False), repeat=2)))
@pytest.mark.filterwarnings("ignore:.*size_average and reduce.*")
def test_the_old_pair_of_flags(flags: tuple, rng: np.random.Generator) -> None:
    keywords = {"size_average": flags[0], "reduce": flags[1]}
    compare(Case("nn.functional.mse_loss", (real(3, 2), real(3, 2)), keywords), "float64", rng)
    compare(Case("nn.CrossEntropyLoss", (real(3, 2), whole(3, high=2)), options=keywords), "float64", rng)


CTC = [
    # T, N, C, target lengths, input lengths, options
    (6, 3, 4, [2, 3, 1], [6, 6, 6], {}),
    (6, 3, 4, [2, 3, 0], [6, 5, 3], {"blank": 3}),
    (4, 2, 3, [4, 1], [4, 4], {"zero_infinity": True}),
    (40, 5, 9, [17, 3, 0, 12, 20], [40, 12, 7, 35, 40], {"zero_infinity": True}),
]


@pytest.mark.parametrize("row", CTC, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ctc(row: tuple, reduction: str, flat: bool, dtype: str, rng: np.random.Generator) -> None:
    steps, batch, classes, target_lengths, input_lengths, options = row
    labels = [c for c in range(classes) if c != options.get("blank", 0)]
    targets = rng.choice(labels, (batch, max(target_lengths)))
    if options.get("zero_infinity"):
        targets[0] = labels[0]  # repetitions need blanks between them: the first one is impossible
    if flat:
        targets = np.concatenate([t[:n] for t, n in zip(targets, target_lengths)])
    inputs = (
        log_probabilities(steps, batch, classes, axis=2),
        given(targets),
        given(input_lengths),
        given(target_lengths),
    )
    keywords = {**options, "reduction": reduction}
    compare(Case("nn.functional.ctc_loss", inputs, keywords, twice=False), dtype, rng)
    compare(Case("nn.CTCLoss", inputs, options=keywords, twice=False), dtype, rng)


def test_ctc_of_one_sequence_and_of_lists(rng: np.random.Generator) -> None:
    x = log_probabilities(7, 4, axis=1)
    lengths = {"input_lengths": given(7), "target_lengths": given(3)}
    for reduction in REDUCTIONS:
        case = Case("nn.functional.ctc_loss", (x, given([1, 2, 3])), {**lengths, "reduction": reduction}, twice=False)
        compare(case, "float64", rng)
    lists = Case(
        "nn.functional.ctc_loss",
        (log_probabilities(7, 2, 4, axis=2), given([[1, 2, 3], [3, 3, 1]]), (7, 6), (3, 2)),
        twice=False,
    )
    compare(lists, "float64", rng)
