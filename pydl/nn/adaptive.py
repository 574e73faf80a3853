"""Softmax over very many classes, most of them rare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pydl
from pydl.nn import functional as F
from pydl.nn.containers import ModuleList, Sequential
from pydl.nn.linear import Linear
from pydl.nn.module import Module

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl import Tensor

__all__ = ["ASMoutput", "AdaptiveLogSoftmaxWithLoss"]


class ASMoutput(NamedTuple):
    """What :class:`AdaptiveLogSoftmaxWithLoss` gives: each target's log-probability, and minus their mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-softmax in two stages: a head for the frequent classes and the clusters, and a small tail for each cluster.

    Classes are numbered from frequent to rare. Grave et al., "Efficient softmax approximation for GPUs",
    arXiv:1609.04309 (2016).

    Args:
        in_features: D, size of the input.
        n_classes: number of classes.
        cutoffs: where clusters begin, ascending: the head has the classes below the first.
        div_value: each further tail works in D/div_value, D/div_value², ... dimensions; default 4.
        head_bias: whether the head has a bias; default False.
        device, dtype: of the parameters; default CPU and float32.

    Shapes:
        input (N, D) or (D), target (N) or () -> output (N) or (), and a scalar loss.

    Raises:
        ValueError: cutoffs that do not ascend within the classes. IndexError: a target that is no class.

    >>> import pydl
    >>> from pydl import nn
    >>> layer = nn.AdaptiveLogSoftmaxWithLoss(16, 1000, cutoffs=[10, 100])
    >>> output, loss = layer(pydl.ones((3, 16)), pydl.asarray([2, 50, 999]))
    >>> output.shape, layer.log_prob(pydl.ones((3, 16))).shape
    ((3,), (3, 1000))
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        ascending = all(a < b for a, b in zip([0, *cutoffs], [*cutoffs, n_classes]))
        if not cutoffs or not ascending or any(int(c) != c for c in cutoffs):
            raise ValueError(
                f"[AdaptiveLogSoftmaxWithLoss] got cutoffs {cutoffs}, expected whole numbers that ascend between 0 and "
                f"n_classes - 1 = {n_classes - 1}"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = cutoffs[0]
        self.n_clusters = len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **made)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            size = int(in_features // div_value ** (i + 1))
            count = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(
                Sequential(Linear(in_features, size, bias=False, **made), Linear(size, count, bias=False, **made))
            )

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        self.head.reset_parameters()
        for to_hidden, to_classes in self.tail:
            to_hidden.reset_parameters()
            to_classes.reset_parameters()

    def forward(self, input: Tensor, target: Tensor) -> ASMoutput:
        """Features and classes -> the log-probability of each class, and the loss."""
        single = target.ndim == 0
        x = pydl.expand_dims(input, axis=0) if single else input
        y = target.reshape((1,)) if single else target
        if x.ndim != 2 or y.ndim != 1 or x.shape[0] != y.shape[0]:
            shapes = f"input {tuple(input.shape)} and target {tuple(target.shape)}"
            raise ValueError(f"[AdaptiveLogSoftmaxWithLoss] got {shapes}, expected (N, D) and (N), or (D) and ()")
        classes = y.cpu().numpy()
        if classes.size and (classes.min() < 0 or classes.max() >= self.n_classes):
            got = f"targets from {classes.min()} to {classes.max()}"
            raise IndexError(f"[AdaptiveLogSoftmaxWithLoss] got {got}, expected 0 to {self.n_classes - 1}")
        head = F.log_softmax(self.head(x), 1)
        place = pydl.minimum(y, self.shortlist_size)
        for i in range(1, self.n_clusters):  # the head's place for each: a class of its own, or its cluster
            place = place + (y >= self.cutoffs[i]).astype(pydl.int64)
        output = pydl.take_along_axis(head, pydl.expand_dims(place, axis=1), axis=1)[:, 0]
        for i, tail in enumerate(self.tail):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            rows = pydl.asarray(((classes >= low) & (classes < high)).nonzero()[0])
            if not rows.size:
                continue
            within = F.log_softmax(tail(pydl.take(x, rows, axis=0)), 1)
            picked = pydl.take_along_axis(within, pydl.expand_dims(pydl.take(y, rows, axis=0) - low, axis=1), axis=1)
            output = pydl.scatter_add(output, 0, rows, picked[:, 0])
        loss = -output.mean()
        return ASMoutput(output[0] if single else output, loss)

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probabilities of all classes: (N, D) -> (N, n_classes)."""
        head = F.log_softmax(self.head(input), 1)
        parts = [head[:, : self.shortlist_size]]
        for i, tail in enumerate(self.tail):
            cluster = self.shortlist_size + i
            parts.append(F.log_softmax(tail(input), 1) + head[:, cluster : cluster + 1])
        return pydl.concat(parts, axis=1)

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class of each row: (N, D) -> (N)."""
        return pydl.argmax(self.log_prob(input), axis=1)
