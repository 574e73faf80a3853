"""Drawing one class from logits: greedy, temperature, top-k, top-p; in float64, and a function of its inputs alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pydl.models.cells import whole
from pydl.train.arguments import real_number


class Sampler:
    """Draws class numbers from logits.

    The logits are divided by `temperature`; of the classes, the `top_k` most probable are kept, and of these the fewest
    that together have the probability `top_p` (nucleus sampling: Holtzman et al., arXiv:1904.09751). Among equally
    probable classes the lower number comes first.

    Args:
        temperature: 1 is the model's own distribution, less is bolder, more is wilder, 0 takes the most probable class.
        top_k: how many classes to keep; default all.
        top_p: how much probability to keep, more than 0 and at most 1; default all.

    Raises:
        ValueError: an argument is outside its range.

    Example:
        >>> sampler = Sampler(temperature=1.0, top_k=2)
        >>> logits = np.log([0.5, 0.2, 0.3])
        >>> [sampler(logits, uniform) for uniform in (0.0, 0.6, 0.7, 0.999)]
        [0, 0, 2, 2]
    """

    __slots__ = ("_inverse_temperature", "temperature", "top_k", "top_p")

    def __init__(self, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> None:
        if not 0.0 <= real_number("Sampler", "temperature", temperature) < math.inf:
            raise ValueError(f"[Sampler] got temperature {temperature}, expected 0 (greedy) or more")
        if top_k is not None:
            (top_k,) = whole("Sampler", top_k=top_k)
        if top_p is not None and not 0.0 < real_number("Sampler", "top_p", top_p) <= 1.0:
            raise ValueError(f"[Sampler] got top_p {top_p}, expected 0 < top_p <= 1")
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        # The largest logit is subtracted first, so an infinite factor would only make 0 * inf of it.
        self._inverse_temperature = min(1.0 / temperature, 1e300) if temperature else 0.0

    def __call__(self, logits: npt.NDArray[np.floating], uniform: float) -> int:
        """The class drawn.

        Args:
            logits: shape (C,).
            uniform: a random number, 0 <= uniform < 1, which decides the draw.

        Raises:
            ValueError: a logit is NaN or positive infinity.
        """
        best = logits.argmax()  # NaN counts as largest
        top = float(logits[best])
        if not math.isfinite(top):
            raise ValueError(f"[Sampler] got a logit {top}, expected finite numbers; did the training diverge?")
        if self.temperature == 0.0 or self.top_k == 1:
            return int(best)
        weights = logits.astype(np.float64)
        weights -= top
        if self.temperature != 1.0:
            weights *= self._inverse_temperature
        np.exp(weights, out=weights)
        if self.top_k is None and self.top_p is None:
            return _draw(weights.cumsum(), uniform)
        order = np.argsort(-weights, kind="stable")[: self.top_k]
        cumulative = weights[order].cumsum()
        if self.top_p is not None:
            kept = int(cumulative.searchsorted(self.top_p * cumulative[-1])) + 1
            cumulative = cumulative[:kept]
        return int(order[_draw(cumulative, uniform)])


def _draw(cumulative: npt.NDArray[np.float64], uniform: float) -> int:
    total = cumulative[-1]
    drawn = int(cumulative.searchsorted(uniform * total, side="right"))
    # The product may round up to the total: then it is the last class with any weight.
    return drawn if drawn < cumulative.size else int(cumulative.searchsorted(total))
