"""Draw: a variational autoencoder that looks at an image and paints one in steps, through windows that it moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

import pydl
from pydl import nn
from pydl.models.cells import whole
from pydl.models.images import ImageModel, check_steps, scaled
from pydl.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Generator, Tensor
    from pydl.train.history import History

__all__ = ["Draw", "Window", "filter_bank", "gaussian_divergence"]


def filter_bank(centre: Tensor, stride: Tensor, variance: Tensor, filters: int, size: int) -> Tensor:
    """Gaussian filters along one axis of an image: F[b, i, a] = exp(-(a - m_bi)² / 2 σ_b²) / its sum over a.

    The middles are m_bi = centre_b + (i - (filters - 1) / 2) stride_b, in pixels counted from 0. Equations 25-27 of
    Gregor et al., arXiv:1502.04623. Far outside of the image a filter is all zeros.

    Args:
        centre, stride, variance: (B, 1).
        filters: n.
        size: pixels along the axis, A.

    Returns:
        (B, n, A).
    """
    middles = centre + (pydl.arange(filters).astype(centre.dtype) - (filters - 1) / 2) * stride  # (B, n)
    pixels = pydl.arange(size).astype(centre.dtype)
    distance = pixels - pydl.expand_dims(middles, axis=2)
    weights = pydl.exp(distance * distance * pydl.expand_dims(-0.5 / variance, axis=2))
    return weights / (weights.sum(axis=2, keepdims=True) + 1e-8)


class Window(NamedTuple):
    """A grid of n x n Gaussian filters over an image: where, how dense, how blurred, how strong."""

    rows: Tensor  # (B, n, H)
    columns: Tensor  # (B, n, W)
    strength: Tensor  # (B, 1, 1)

    @classmethod
    def of(cls, parameters: Tensor, filters: int, height: int, width: int) -> Window:
        """Parameters (B, 5), any numbers: row, column (-1 to 1 is the image), log variance, log stride, log strength.

        At 0 the grid is in the middle and reaches over the longer side. Equations 21-24 there.
        """
        row, column = parameters[:, 0:1], parameters[:, 1:2]
        variance, stride, strength = (pydl.exp(parameters[:, i : i + 1]) for i in (2, 3, 4))
        stride = stride * ((max(height, width) - 1) / (filters - 1))
        return cls(
            filter_bank((row + 1.0) * ((height - 1) / 2), stride, variance, filters, height),
            filter_bank((column + 1.0) * ((width - 1) / 2), stride, variance, filters, width),
            pydl.expand_dims(strength, axis=2),
        )

    def read(self, images: Tensor) -> Tensor:
        """What is seen of images (B, K, H, W): γ F_rows x F_columnsᵀ -> (B, K, n, n)."""
        batch, kinds, _, width = images.shape
        filters = self.rows.shape[1]
        side_by_side = pydl.swap_axes(images, 1, 2).reshape((batch, -1, kinds * width))  # one product for all K
        seen = (self.rows @ side_by_side).reshape((batch, filters * kinds, width))
        seen = seen @ pydl.swap_axes(self.columns, 1, 2) * self.strength
        return pydl.swap_axes(seen.reshape((batch, filters, kinds, filters)), 1, 2)

    def write(self, patches: Tensor) -> Tensor:
        """Patches (B, n, n) put into images: F_rowsᵀ w F_columns / γ -> (B, H, W)."""
        return pydl.swap_axes(self.rows, 1, 2) @ (patches / self.strength) @ self.columns


def gaussian_divergence(mean: Tensor, log_deviation: Tensor) -> Tensor:
    """The Kullback-Leibler divergence, in nats, of N(mean, deviation²) from N(0, 1), element by element."""
    return 0.5 * (mean * mean + pydl.exp(2.0 * log_deviation) - 1.0) - log_deviation


class Draw(ImageModel):
    """A deep recurrent attentive writer (DRAW, Gregor et al., arXiv:1502.04623): paints images in T steps.

    At each step the encoder reads the image and what the canvas still lacks through a window; it tells the
    distribution of the latent variable z_t; the decoder gets a draw of it, moves the window for the next reading, and
    adds a patch to the canvas through a window of its own. The sigmoid of the last canvas is the probability that each
    pixel is 1. What is minimized is the bound -log p(x) <= E[-log p(x | z)] + Σ_t KL(q(z_t) ‖ N(0, 1)), in nats.

    Pixels should be 0 or 1; of others, from 0 to 1, the cross-entropy is taken all the same and the bound is none of a
    density.

    Args:
        height, width: of the gray images.
        steps: T, at most 10,000; default 10.
        read, write: n, filters along each side of the windows, 2 or more; default 5.
        hidden_size: of encoder and decoder, LSTMs; default 256.
        latent_size: of each z_t; default 32.

    Raises:
        ValueError: a size that is not positive.

    Example:
        >>> _ = pydl.manual_seed(0)
        >>> x = np.zeros((64, 6, 6), np.float32)
        >>> x[:32, 1:3] = 1.0
        >>> x[32:, :, 4] = 1.0
        >>> model = Draw(6, 6, steps=3, read=2, write=3, hidden_size=16, latent_size=2)
        >>> before = model.bound(x).mean()
        >>> _ = model.fit(x, batch_size=16, epochs=10, lr=0.01, verbose=0)
        >>> bool(model.bound(x).mean() < 0.5 * before), model.sample(2).shape
        (True, (3, 2, 6, 6))
    """

    _counts = ("steps", "read", "write")
    _free = ("steps",)

    def __init__(
        self,
        height: int,
        width: int,
        *,
        steps: int = 10,
        read: int = 5,
        write: int = 5,
        hidden_size: int = 256,
        latent_size: int = 32,
    ) -> None:
        super().__init__()
        height, width, steps, hidden_size, latent_size = whole(
            "Draw", height=height, width=width, steps=steps, hidden_size=hidden_size, latent_size=latent_size
        )
        check_steps("Draw", "steps", steps)
        for name, filters in (("read", read), ("write", write)):
            if whole("Draw", **{name: filters})[0] < 2:
                raise ValueError(f"[Draw] got {name} {filters!r}, expected an integer, 2 or more")
        read, write = int(read), int(write)
        self._arguments = {
            "height": height, "width": width, "steps": steps, "read": read, "write": write,
            "hidden_size": hidden_size, "latent_size": latent_size,
        }  # fmt: skip
        self.height, self.width, self.steps, self.read, self.write = height, width, steps, read, write
        self.hidden_size, self.latent_size = hidden_size, latent_size
        self.canvas = nn.Parameter(pydl.zeros((height, width)))  # where painting begins
        self.read_window = nn.Linear(hidden_size, 5)
        self.encoder = nn.LSTMCell(2 * read * read + hidden_size, hidden_size)
        self.posterior = nn.Linear(hidden_size, 2 * latent_size)  # mean and log deviation
        self.decoder = nn.LSTMCell(latent_size, hidden_size)
        self.write_window = nn.Linear(hidden_size, 5)
        self.patch = nn.Linear(hidden_size, write * write)

    def _config(self) -> dict[str, Any]:
        return dict(self._arguments)

    @classmethod
    def _check(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        whole("Draw", **{name: config[name] for name in cls._counts})
        check_steps("Draw", "steps", config["steps"])
        super()._check(config, weights)
        for name, shape, axis, extra in (
            ("read", weights["encoder.weight_ih"].shape, 1, config["hidden_size"]),
            ("write", weights["patch.weight"].shape, 0, 0),
        ):
            numbers = (2 if name == "read" else 1) * config[name] ** 2 + extra
            if numbers != shape[axis]:
                raise ValueError(f"{name} is {config[name]}, but the weights are for {shape[axis]} numbers")

    @classmethod
    def _shapes(cls, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        hidden, latent = config["hidden_size"], config["latent_size"]
        rows = 4 * hidden
        return {
            "canvas": (config["height"], config["width"]),
            "encoder.weight_hh": (rows, hidden),
            "decoder.weight_ih": (rows, latent),
            "decoder.weight_hh": (rows, hidden),
            "posterior.weight": (2 * latent, hidden),
        }

    # ---- the network

    def _start(self, count: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        canvas = pydl.broadcast_to(self.canvas, (count, self.height, self.width))
        return canvas, (pydl.zeros((count, self.hidden_size)), pydl.zeros((count, self.hidden_size)))

    def _paint(self, canvas: Tensor, h: Tensor) -> Tensor:
        window = Window.of(self.write_window(h), self.write, self.height, self.width)
        return canvas + window.write(self.patch(h).reshape((len(h), self.write, self.write)))

    def forward(self, images: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Images (N, H, W), floats -> logits of the last canvas (N, H, W), divergences of all steps (N,)."""
        count = len(images)
        canvas, decoder = self._start(count)
        encoder = decoder
        noise = pydl.randn(self.steps, count, self.latent_size, generator=generator)
        moments = []
        for t in range(self.steps):
            window = Window.of(self.read_window(decoder[0]), self.read, self.height, self.width)
            seen = window.read(pydl.stack([images, images - pydl.sigmoid(canvas)], axis=1))
            encoder = self.encoder(pydl.concat([seen.reshape((count, -1)), decoder[0]], axis=1), encoder)
            moments.append(self.posterior(encoder[0]))
            mean, log_deviation = moments[-1][:, : self.latent_size], moments[-1][:, self.latent_size :]
            decoder = self.decoder(mean + pydl.exp(log_deviation) * noise[t], decoder)
            canvas = self._paint(canvas, decoder[0])
        together = pydl.stack(moments)  # (T, N, 2 Z)
        divergence = gaussian_divergence(together[..., : self.latent_size], together[..., self.latent_size :])
        return canvas, divergence.sum(axis=(0, 2))

    def losses(self, images: Tensor) -> dict[str, Tensor]:
        """Of bytes or floats (N, H, W), nats per image: ``"loss"``, the bound, and its parts, ``"reconstruction"`` and
        ``"divergence"``. In evaluation the noise is that of seed 0."""
        images = scaled(images)
        generator = None if self.training else pydl.Generator(0)
        canvas, divergence = self(images, generator)
        reconstruction = F.binary_cross_entropy_with_logits(canvas, images, reduction="sum") / len(images)
        divergence = divergence.mean()
        return {"loss": reconstruction + divergence, "reconstruction": reconstruction, "divergence": divergence}

    # ---- training and asking

    def fit(
        self, x: Any, batch_size: int = 128, epochs: int = 1, *, clip_norm: float | None = 10.0, **options: Any
    ) -> History:
        """Train. A canvas that is still empty begins as the mean image: to find that by painting takes long.

        Args:
            x: N images, (N, H, W) or (N, 1, H, W), bytes or floats from 0 to 1.
            batch_size, epochs: default 128 and 1.
            clip_norm: bound of the gradients' norm; default 10.
            options: optimizer, lr, scheduler, regularizers, ema, validation_data (images), validation_split and seed,
                as for :class:`pydl.Trainer`, and those of :meth:`pydl.Trainer.fit`: callbacks, verbose, checkpoint, ...

        Raises:
            ValueError, TypeError: something is wrong with the data or the arguments; no step was made.
        """
        return self._fit(x, None, batch_size, epochs, clip_norm=clip_norm, **options)

    def _begin(self, images: npt.NDArray[Any]) -> None:
        if (self.canvas == 0).all():
            whole = 255 if images.dtype == np.uint8 else 1
            p = (images.sum(axis=0, dtype=np.float64) / whole + 1) / (len(images) + 2)  # never 0 or 1
            self.canvas.detach().copy_(pydl.asarray(np.log(p / (1 - p)).astype(np.float32)))

    def evaluate(self, x: Any, batch_size: int = 256) -> dict[str, float]:
        """The mean bound (``"loss"``) and its parts, ``"reconstruction"`` and ``"divergence"``, in nats per image."""
        return self._evaluate(x, None, batch_size)

    def bound(
        self, x: Any, batch_size: int = 256, *, samples: int = 1, generator: Generator | None = None
    ) -> npt.NDArray[np.float32]:
        """The bound on -log p(x) of each image, (N,) nats, in evaluation mode.

        Args:
            x: images, as for `fit`.
            batch_size: images at a time; default 256.
            samples: draws of z that are averaged; default 1. More make it less noisy, not tighter.
            generator: of the draws; default one of seed 0.
        """
        images = self._images("Draw.bound", x)
        batch_size, samples = whole("Draw.bound", batch_size=batch_size, samples=samples)
        generator = pydl.Generator(0) if generator is None else generator
        self.eval()
        found = np.zeros(len(images), np.float32)
        with pydl.no_grad():
            for _ in range(samples):
                for begin in range(0, len(images), batch_size):
                    batch = scaled(pydl.asarray(images[begin : begin + batch_size]))
                    canvas, divergence = self(batch, generator)
                    nats = F.binary_cross_entropy_with_logits(canvas, batch, reduction="none").sum(axis=(1, 2))
                    found[begin : begin + batch_size] += (nats + divergence).cpu().numpy()
        return found / np.float32(samples)

    def sample(self, n: int = 1, generator: Generator | None = None) -> npt.NDArray[np.float32]:
        """Paint n images from nothing: the probabilities of the pixels after each step, (T, n, H, W).

        Args:
            n: how many; default 1.
            generator: of the latent variables; default ``pydl.default_generator()``.
        """
        (n,) = whole("Draw.sample", n=n)
        self.eval()
        canvases = []
        with pydl.no_grad():
            canvas, decoder = self._start(n)
            noise = pydl.randn(self.steps, n, self.latent_size, generator=generator)
            for t in range(self.steps):
                decoder = self.decoder(noise[t], decoder)
                canvas = self._paint(canvas, decoder[0])
                canvases.append(pydl.sigmoid(canvas).cpu().numpy())
        return np.stack(canvases)
