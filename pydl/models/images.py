"""ImageModel: what models of gray images of one size share: checked inputs, fit and evaluate with losses of their own.

Files come from SavedModel. A subclass tells all its losses itself, so the trainer has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import pydl
from pydl.data import ArrayDataset, DataLoader
from pydl.models.cells import whole
from pydl.models.saved import SavedModel
from pydl.train.inputs import split_indices
from pydl.train.tracking import StepLogs
from pydl.train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Tensor
    from pydl.train.history import History

__all__ = ["ImageModel", "check_steps", "scaled"]

_MOST_STEPS = 10_000


def check_steps(name: str, what: str, steps: int) -> None:
    """Raise ValueError for more steps than any model of images takes: no weight tells that a file lies about them."""
    if steps > _MOST_STEPS:
        raise ValueError(f"[{name}] got {what} {steps}, expected at most {_MOST_STEPS}")


def scaled(images: Tensor) -> Tensor:
    """Bytes as float32 from 0 to 1; floats as they are."""
    return images if images.dtype.is_floating_point else images.astype(pydl.float32) * (1.0 / 255.0)


class _Trainer(Trainer):
    """A trainer of a model that has ``losses(*batch)``: name -> 0-d tensor, of which ``"loss"`` is minimized."""

    def train_step(self, batch: Any) -> Mapping[str, float]:
        if not self._pending:
            self.optimizer.zero_grad()
        losses, logs = self._losses(batch)
        self.backward(losses["loss"], float(len(batch[0])))
        if self._pending >= self.accumulate:
            self.apply_gradients()
        return logs

    def test_step(self, batch: Any) -> Mapping[str, float]:
        return self._losses(batch)[1]

    def _losses(self, batch: Any) -> tuple[dict[str, Tensor], StepLogs]:
        model: Any = self.model
        losses: dict[str, Tensor] = model.losses(*batch)
        penalty = self.penalties()
        if penalty is not None:
            losses["loss"] = losses["loss"] + penalty
        return losses, StepLogs({name: value.item() for name, value in losses.items()})


class ImageModel(SavedModel):
    """A module with fit, evaluate, save and load for images (N, H, W) or (N, 1, H, W) of one size.

    A subclass has ``losses(images, ...)``, which gets (N, H, W) as bytes or floats, and what else ``_data`` gives, and
    returns means by name as 0-d tensors; ``"loss"`` is what is minimized.

    Attributes:
        height, width: H and W.
    """

    height: int
    width: int

    def _images(self, where: str, x: Any) -> npt.NDArray[Any]:
        """Images as (N, H, W), uint8 where they were bytes, otherwise float32.

        Raises:
            TypeError: no numbers.
            ValueError: none, another size, NaN, values below 0 or above 1 (bytes: 0 to 255); says where.
        """
        name = f"(N, {self.height}, {self.width}) or (N, 1, {self.height}, {self.width})"
        try:
            images = x.detach().cpu().numpy() if isinstance(x, pydl.Tensor) else np.asarray(x)
        except ValueError:
            raise TypeError(f"[{where}] got images of different sizes, expected one array {name}") from None
        if images.dtype.kind not in "biuf":
            raise TypeError(f"[{where}] got images of {images.dtype}, expected numbers of shape {name}")
        if images.ndim == 4 and images.shape[1] == 1:
            images = images[:, 0]
        if images.ndim != 3 or images.shape[1:] != (self.height, self.width):
            raise ValueError(f"[{where}] got images of shape {images.shape}, expected {name}, as the model was made")
        if len(images) == 0:
            raise ValueError(f"[{where}] got no images, expected at least one")
        if images.dtype == np.uint8:
            return images
        images = images.astype(np.float32)
        wrong = ~((images >= 0.0) & (images <= 1.0))  # NaN compares False
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"[{where}] image {place[0]} has the value {images[place]:g} at {list(place[1:])}, expected 0 to 1; or"
                " give bytes (uint8), which are divided by 255"
            )
        return images

    def _data(self, where: str, x: Any, y: Any) -> tuple[Any, ...]:
        """Checked arrays, the images first; a subclass with targets adds them."""
        return (self._images(where, x),)

    def _begin(self, images: npt.NDArray[Any]) -> None:
        """What `fit` sets by the checked images before the first step; nothing here."""

    def _fit(
        self,
        x: Any,
        y: Any,
        batch_size: int,
        epochs: int,
        *,
        optimizer: Any = "adam",
        lr: float | None = None,
        scheduler: Any = None,
        regularizers: Any = None,
        clip_norm: float | None = None,
        ema: float | None = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        seed: int = 0,
        **options: Any,
    ) -> History:
        name = f"{type(self).__name__}.fit"
        for what in ("class_weight", "sample_weight", "metrics", "loss"):
            if what in options:
                raise TypeError(f"[{name}] got {what}, which this model has no use for: its losses are its own")
        arrays = self._data(name, x, y)
        held: tuple[Any, ...] | None = None
        if validation_data is not None:
            if validation_split:
                raise ValueError(f"[{name}] got validation_data and validation_split, expected one of them")
            pair = isinstance(validation_data, (tuple, list)) and len(validation_data) == 2
            if len(arrays) == 2 and not pair:
                raise ValueError(f"[{name}] expected validation_data (x, y)")
            given = validation_data if len(arrays) == 2 else (validation_data, None)
            held = self._data(f"{name}: validation_data", *given)
        elif validation_split:
            kept, chosen = split_indices("fit", len(arrays[0]), validation_split, "random", None, False, seed)
            arrays, held = tuple(a[kept] for a in arrays), tuple(a[chosen] for a in arrays)
        (batch_size,) = whole(name, batch_size=batch_size)
        self._begin(arrays[0])
        trainer = _Trainer(
            self, None, optimizer, lr=lr, scheduler=scheduler, regularizers=regularizers, clip_norm=clip_norm, ema=ema,
            seed=seed,
        )  # fmt: skip
        if held is not None:
            options["validation_data"] = DataLoader(ArrayDataset(*held), batch_size=max(batch_size, 256))
        loader = DataLoader(ArrayDataset(*arrays), batch_size=batch_size, shuffle=True, seed=seed)
        return trainer.fit(loader, epochs=epochs, **options)

    def _evaluate(self, x: Any, y: Any, batch_size: int) -> dict[str, float]:
        name = f"{type(self).__name__}.evaluate"
        (batch_size,) = whole(name, batch_size=batch_size)
        loader = DataLoader(ArrayDataset(*self._data(name, x, y)), batch_size=batch_size)
        found: dict[str, float] = _Trainer(self, None, "sgd", lr=0.0).evaluate(loader)
        return found
