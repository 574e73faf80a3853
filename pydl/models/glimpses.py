"""RecurrentAttention: a network that sees a few small patches of an image and decides where to look next.

Where it looks is drawn from a distribution and has no gradient through the image: the policy learns by REINFORCE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

import pydl
from pydl import nn
from pydl.models.cells import class_count, recurrent, recurrent_shapes, whole
from pydl.models.classifiers import class_numbers
from pydl.models.images import ImageModel, check_steps, scaled
from pydl.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Tensor
    from pydl.train.history import History

__all__ = ["Glimpses", "RecurrentAttention", "policy_loss"]


class Glimpses(NamedTuple):
    """What was seen of N images in T glimpses."""

    probabilities: npt.NDArray[np.float32]  # (N, C)
    centres: npt.NDArray[np.float32]  # (N, T, 2) row and column of each glimpse's middle, in pixels from the corner
    patches: npt.NDArray[np.float32]  # (N, T, S, P, P), the finest scale first


class Sensor:
    """Cuts patches out of a batch of images at several scales.

    A patch of scale s covers (P 2^s)² pixels, each of its P² values the mean of 2^s x 2^s of them; outside is 0.

    Args:
        images: (N, H, W), floats.
        patch, scales: P and how many scales.
    """

    def __init__(self, images: Tensor, patch: int, scales: int) -> None:
        self.count, self.height, self.width = images.shape
        self.patch, self.scales = patch, scales
        self.means: list[tuple[Tensor, int, int]] = []  # of all squares of a scale: rows of pixels, width, margin
        for scale in range(scales):
            factor = 2**scale
            margin = patch * factor // 2 + 1
            mean = F.pad(pydl.expand_dims(images, axis=1), (margin,) * 4)
            mean = F.avg_pool2d(mean, factor, stride=1) if factor > 1 else mean
            self.means.append((mean.reshape((self.count, -1)), mean.shape[3], margin))

    def __call__(self, locations: npt.NDArray[np.float32]) -> Tensor:
        """Locations (N, 2), (row, column) from -1 to 1, the images' edges -> patches (N, S, P, P)."""
        middle = (np.clip(locations, -1.0, 1.0) + 1.0) * 0.5 * (self.height, self.width)
        parts = []
        for scale, (mean, width, margin) in enumerate(self.means):
            factor = 2**scale
            corner = np.floor(middle - self.patch * factor / 2 + 0.5).astype(np.int64) + margin
            steps = np.arange(self.patch) * factor
            rows, columns = corner[:, :1] + steps, corner[:, 1:] + steps
            places = (rows[:, :, None] * width + columns[:, None, :]).reshape(self.count, -1)
            parts.append(pydl.take_along_axis(mean, pydl.from_numpy(places), axis=1))
        return pydl.stack(parts, axis=1).reshape((self.count, self.scales, self.patch, self.patch))


def policy_loss(log_probabilities: Tensor, rewards: Tensor, baselines: Tensor) -> Tensor:
    """What has the gradient of minus the expected reward: -mean over episodes of Σ_t log p(action_t) (R - b_t).

    Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", 1992. A
    baseline that does not depend on the action changes the variance of the gradient, not its mean.

    Args:
        log_probabilities: (T, N) of what was done; a factor that no parameter is in may be left out.
        rewards: (N,); baselines: (T, N). No gradient goes into either.

    Returns:
        0-d.
    """
    return -(log_probabilities * (rewards - baselines).detach()).sum(axis=0).mean()


class RecurrentAttention(ImageModel):
    """Classifies an image from T small glimpses and chooses, after each, where to look next (Mnih et al.,
    arXiv:1406.6247).

    A glimpse is patches of P x P at S scales (see :class:`Sensor`) around a location. The glimpse network joins what
    was seen with where, a recurrent layer goes from glimpse to glimpse, its last state tells the class. The next
    location is normal around tanh(W h / 4), with a fixed deviation; the first is the middle. Classes are learned by
    cross-entropy; locations by REINFORCE with the reward 1 for the right class and a learned baseline, whose
    gradients end at the recurrent layer.

    Args:
        height, width: of the gray images.
        classes: C, 2 or more.
        glimpses: T, at most 10,000; default 6.
        patch: P; default 8.
        scales: S; default 1.
        cell: ``"lstm"`` (default), ``"gru"`` or ``"rnn"``.
        hidden_size: of the recurrent layer; default 256.
        location_std: deviation of the locations in training, where the image is 2 wide; default 0.1. In evaluation and
            prediction it looks at the mean.

    Raises:
        ValueError: a size that is not positive, patches more than twice as wide as the image.

    Example:
        >>> _ = pydl.manual_seed(0)
        >>> x = np.zeros((40, 12, 12), np.float32)
        >>> x[:20, 5, 4:8] = 1.0
        >>> x[20:, 4:8, 5] = 1.0
        >>> model = RecurrentAttention(12, 12, 2, glimpses=2, patch=4, hidden_size=16)
        >>> _ = model.fit(x, [0] * 20 + [1] * 20, batch_size=10, epochs=10, lr=0.01, verbose=0)
        >>> model.predict(x[[0, 39]]), model.look(x[:1]).centres[0, 0]
        (array([0, 1]), array([6., 6.], dtype=float32))
    """

    _counts = ("height", "width", "glimpses", "patch", "scales")
    _free = ("glimpses", "location_std")

    def __init__(
        self,
        height: int,
        width: int,
        classes: int,
        *,
        glimpses: int = 6,
        patch: int = 8,
        scales: int = 1,
        cell: str = "lstm",
        hidden_size: int = 256,
        location_std: float = 0.1,
    ) -> None:
        super().__init__()
        name = "RecurrentAttention"
        height, width, glimpses, patch, scales, hidden_size = whole(
            name, height=height, width=width, glimpses=glimpses, patch=patch, scales=scales, hidden_size=hidden_size
        )
        check_steps(name, "glimpses", glimpses)
        if scales > 20 or patch << (scales - 1) > 2 * max(height, width):
            raise ValueError(
                f"[{name}] got patch {patch} at {scales} scales, the coarsest {patch} 2^{scales - 1} pixels wide,"
                f" expected at most twice the image, {height} x {width}"
            )
        classes = class_count(name, classes)
        if not 0.0 < location_std < float("inf"):
            raise ValueError(f"[{name}] got location_std {location_std!r}, expected more than 0")
        self._arguments = {
            "height": height, "width": width, "classes": classes, "glimpses": glimpses, "patch": patch,
            "scales": scales, "cell": cell, "hidden_size": hidden_size, "location_std": location_std,
        }  # fmt: skip
        self.height, self.width, self.classes = height, width, classes
        self.glimpses, self.patch, self.scales, self.location_std = glimpses, patch, scales, location_std
        half = (hidden_size + 1) // 2
        self.what = nn.Linear(scales * patch * patch, half)
        self.where = nn.Linear(2, half)
        self.join = nn.Linear(2 * half, hidden_size)
        self.rnn = recurrent(name, cell, hidden_size, hidden_size, 1, 0.0, bidirectional=False)
        self.output = nn.Linear(hidden_size, classes)
        self.location = nn.Linear(hidden_size, 2)
        self.baseline = nn.Linear(hidden_size, 1)

    def _config(self) -> dict[str, Any]:
        return dict(self._arguments)

    @classmethod
    def _check(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        whole("RecurrentAttention", **{name: config[name] for name in cls._counts})
        check_steps("RecurrentAttention", "glimpses", config["glimpses"])
        super()._check(config, weights)
        numbers, columns = config["scales"] * config["patch"] ** 2, weights["what.weight"].shape[1]
        if numbers != columns:
            raise ValueError(f"a glimpse has {numbers} numbers, but there are weights for {columns}")

    @classmethod
    def _shapes(cls, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        hidden = config["hidden_size"]
        layers = recurrent_shapes("rnn", config["cell"], hidden, hidden, 1)
        return {**layers, "output.weight": (config["classes"], hidden)}

    # ---- the network

    def forward(self, patches: Tensor, locations: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Patches (T, N, S, P, P) seen at locations (T, N, 2) -> the recurrent layer's outputs (T, N, H), its state."""
        seen = patches.reshape((*patches.shape[:2], -1))
        both = pydl.concat([pydl.relu(self.what(seen)), pydl.relu(self.where(locations))], axis=2)
        outputs, state = self.rnn(pydl.relu(self.join(both)), state)
        return outputs, state

    def aim(self, states: Tensor) -> Tensor:
        """Where the policy looks next: outputs of the recurrent layer (..., H) -> row and column (..., 2), -1 to 1.

        A subclass may have a policy of its own that is not learned.
        """
        # Adam steps as far along noise as along a slope: smaller steps, lest it walks into tanh's flat ends on noise.
        return pydl.tanh(self.location(states) * 0.25)

    def _explore(self, images: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Look at images (N, H, W) T times -> patches (T, N, S, P, P), locations (T, N, 2), the last output (N, H).

        Locations are drawn in training and the means in evaluation, or those of `places` (T, N, 2). Nothing is
        recorded.
        """
        patches: list[Tensor] = []
        locations: list[Tensor] = []
        state: Any = None
        last = pydl.zeros((len(images), self.location.in_features))
        with pydl.no_grad():
            sensor = Sensor(images, self.patch, self.scales)
            location = pydl.zeros((len(images), 2))
            for t in range(self.glimpses):
                if places is not None:
                    location = places[t]
                elif t:
                    location = self.aim(last)
                    if self.training:
                        location = location + self.location_std * pydl.randn(*location.shape)
                patches.append(sensor(location.cpu().numpy()))
                locations.append(location)
                outputs, state = self(patches[-1][None], location[None], state)
                last = outputs[0]
        return pydl.stack(patches), pydl.stack(locations), last

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Of bytes or floats (N, H, W) and classes (N,): ``"loss"``, their sum in training, ``"accuracy"``, and in
        training ``"policy"`` and ``"baseline"``."""
        patches, locations, last = self._explore(scaled(images))
        if not self.training:
            logits = self.output(last)
            right = (logits.argmax(axis=1) == labels).astype(pydl.float32)
            return {"loss": F.cross_entropy(logits, labels), "accuracy": right.mean()}
        outputs, _ = self(patches, locations)  # again, and recorded: all steps at once
        logits = self.output(outputs[-1])
        classification = F.cross_entropy(logits, labels)
        rewards = (logits.detach().argmax(axis=1) == labels).astype(pydl.float32)
        if self.glimpses == 1:
            return {"loss": classification, "accuracy": rewards.mean()}
        states = outputs[:-1].detach()
        means = self.aim(states)
        log_probabilities = ((locations[1:] - means) ** 2).sum(axis=2) * (-0.5 / self.location_std**2)
        baselines = pydl.squeeze(self.baseline(states), axis=2)  # (T - 1, N)
        policy = policy_loss(log_probabilities, rewards, baselines)
        baseline = ((baselines - rewards) ** 2).mean()
        return {
            "loss": classification + policy + baseline,
            "accuracy": rewards.mean(), "policy": policy, "baseline": baseline,
        }  # fmt: skip

    # ---- training and asking

    def _data(self, where: str, x: Any, y: Any) -> tuple[Any, ...]:
        images = self._images(where, x)
        labels = class_numbers(where, y, len(images))
        wrong = (labels < 0) | (labels >= self.classes)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"[{where}] y has the class {labels[row]} in row {row}, expected 0 to {self.classes - 1}")
        return images, labels.astype(np.int64)

    def fit(self, x: Any, y: Any, batch_size: int = 128, epochs: int = 1, **options: Any) -> History:
        """Train.

        Args:
            x: N images, (N, H, W) or (N, 1, H, W), bytes or floats from 0 to 1.
            y: N class numbers.
            batch_size, epochs: default 128 and 1.
            options: optimizer, lr, scheduler, regularizers, clip_norm, ema, validation_data (x, y), validation_split
                and seed, as for :class:`pydl.Trainer`, and those of :meth:`pydl.Trainer.fit`: callbacks, verbose,
                checkpoint, resume, ...

        Raises:
            ValueError, TypeError: something is wrong with the data or the arguments; no step was made.
        """
        return self._fit(x, y, batch_size, epochs, **options)

    def evaluate(self, x: Any, y: Any, batch_size: int = 256) -> dict[str, float]:
        """The mean cross-entropy in nats (``"loss"``) and the accuracy, looking at the policy's means."""
        return self._evaluate(x, y, batch_size)

    def look(self, x: Any, batch_size: int = 256, *, centres: Any = None) -> Glimpses:
        """Where it looks, what it sees there, and what it says; in evaluation mode.

        Args:
            x: images, as for `fit`.
            batch_size: images at a time; default 256.
            centres: (N, T, 2), row and column of each glimpse's middle in pixels: where it is sent instead of going
                where its policy says.
        """
        where = "RecurrentAttention.look"
        images = self._images(where, x)
        (batch_size,) = whole(where, batch_size=batch_size)
        size = np.array([self.height, self.width], np.float32)
        places = None
        if centres is not None:
            given, wanted = np.asarray(centres, np.float32), (len(images), self.glimpses, 2)
            if given.shape != wanted or not np.isfinite(given).all():
                raise ValueError(f"[{where}] got centres of shape {given.shape}, expected {wanted} and finite numbers")
            places = np.ascontiguousarray(np.swapaxes(given / size * 2.0 - 1.0, 0, 1))
        self.eval()
        parts = []
        with pydl.no_grad():
            for begin in range(0, len(images), batch_size):
                rows = slice(begin, begin + batch_size)
                sent = None if places is None else pydl.asarray(places[:, rows])
                patches, locations, last = self._explore(scaled(pydl.asarray(images[rows])), sent)
                parts.append((
                    F.softmax(self.output(last), axis=1).cpu().numpy(),
                    (np.swapaxes(np.clip(locations.cpu().numpy(), -1.0, 1.0), 0, 1) + 1.0) * 0.5 * size,
                    np.swapaxes(patches.cpu().numpy(), 0, 1),
                ))  # fmt: skip
        return Glimpses(*(np.concatenate(part) for part in zip(*parts)))

    def predict_probabilities(self, x: Any, batch_size: int = 256) -> npt.NDArray[np.float32]:
        """The probabilities of the classes, (N, C)."""
        return self.look(x, batch_size).probabilities

    def predict(self, x: Any, batch_size: int = 256) -> npt.NDArray[np.int64]:
        """The most probable class of each image, (N,)."""
        return self.predict_probabilities(x, batch_size).argmax(axis=1)
