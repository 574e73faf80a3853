"""Numbers that are not finite: what fit raises about them, and a mode in which every op and layer is watched."""

from __future__ import annotations

__all__ = ["NotFinite"]


class NotFinite(FloatingPointError):  # noqa: N818 - it says what was found
    """A loss, gradient or weight became NaN or infinite while training.

    The model, the optimizer and everything else are as they were before the step in which it began.

    Attributes:
        epoch, step: where it began, both from 0; ``step`` counts optimizer steps, as ``Trainer.step`` does.
        layer: the dotted name of the module where it appeared first, ``""`` for the model itself or outside of all
            modules, None where the repetition of the step did not show it again.
        tensor: ``"input"``, ``"target"``, ``"parameter NAME"``, ``"activation"``, ``"gradient of NAME"``, ``"gradient"`` or
            ``"loss"``; None as above.

    >>> raise NotFinite(1, 40, "2", "activation", "the loss is nan")
    Traceback (most recent call last):
    pydl.train.anomaly.NotFinite: [fit] the loss is nan: it began in epoch 1, step 40 (from 0), in layer '2', in its activation
    """

    def __init__(self, epoch: int, step: int, layer: str | None, tensor: str | None, found: str) -> None:
        self.epoch, self.step, self.layer, self.tensor = epoch, step, layer, tensor
        where = f"it began in epoch {epoch}, step {step} (from 0)"
        if tensor is None:
            where += "; when the step was done again it did not come back"
        elif layer:
            where += f", in layer {layer!r}, in its {tensor}"
        else:
            where += f", in the {tensor}"
        super().__init__(f"[fit] {found}: {where}")
