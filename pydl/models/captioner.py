"""Captioner: an image is read by any encoder, a CNN by default, and a recurrent decoder writes a sentence about it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl import nn
from pydl.models.cells import whole
from pydl.models.saved import check_shapes, read_config
from pydl.models.sequence import Array, size_of
from pydl.models.writer import DecoderState, Memory, SequenceWriter
from pydl.text.tokens import TokenVocabulary

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = ["Captioner"]

_LARGEST = 2**28  # numbers in one image; a file that lies about its images asks for no more memory


class Captioner(SequenceWriter):
    """A sequence of tokens for an image (one-to-many): the encoder's features become the decoder's first state.

    The features, flattened, give the states of all layers by a linear layer and layer normalization, and tanh for h,
    which many large features would saturate otherwise. With attention, the default, the decoder also looks at the
    places of the feature map for each token (Xu et al., arXiv:1502.03044); features without places are one. Without,
    it has to remember what it saw once (Vinyals et al., arXiv:1411.4555), which is learnt much slower. How the decoder
    writes is told in :class:`SequenceWriter`.

    Args:
        image_shape: (C, H, W) of all images.
        target: a vocabulary with start and stop tokens, such as WordVocabulary, or a number of ids V, of which 1 is
            start and 2 is stop.
        encoder: the channels of a CNN, default ``(32, 64, 128)``, for each of which it has a 3 x 3 convolution, batch
            normalization, ReLU and max pooling that halves the image; what it reads is batch-normalized first, so that
            bytes serve as well as floats. Or a module from (N, C, H, W) to features (N, F) or a map (N, F, h, w).
        attention: ``"dot"`` (default), ``"additive"`` or None.
        embedding_size: numbers that stand for a token; default `hidden_size`.
        cell: ``"lstm"`` (default), which keeps best what was seen at the beginning, ``"gru"`` or ``"rnn"``.
        hidden_size, num_layers: H and L of the decoder; default 128 and 1.
        dropout: between layers and before the last linear one; default 0.

    ``fit(x, y)`` takes N images as one array (N, C, H, W) of bytes or floats, and N captions, strings or (T_i,) ids.
    A module given as encoder is trained with the rest; freeze its parameters where it shall stay as it is. A file has
    its weights but not its code: :meth:`load` wants it again.

    Raises:
        ValueError: an image that is too small for the CNN, an encoder whose output is neither, an unknown cell, a size
            that is not positive.

    Example:
        >>> import numpy as np
        >>> from pydl.text import WordVocabulary
        >>> _ = pydl.manual_seed(0)
        >>> captions = ["a dark image", "a bright image of nothing"] * 8
        >>> images = np.zeros((16, 1, 8, 8), np.uint8)
        >>> images[1::2] = 255
        >>> model = Captioner((1, 8, 8), WordVocabulary.from_texts(captions), encoder=(4, 8), hidden_size=16)
        >>> _ = model.fit(images, captions, batch_size=8, epochs=20, lr=0.02, verbose=0)
        >>> model.predict(images[:2])
        ['a dark image', 'a bright image of nothing']
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        target: TokenVocabulary | int,
        *,
        encoder: Sequence[int] | nn.Module = (32, 64, 128),
        attention: str | None = "dot",
        embedding_size: int | None = None,
        cell: str = "lstm",
        hidden_size: int = 128,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(target, attention)
        target = self.target_vocabulary or self.target_size
        hidden_size, num_layers = whole("Captioner", hidden_size=hidden_size, num_layers=num_layers)
        embedding_size = size_of("Captioner", "embedding_size", embedding_size)
        self.image_shape = shape = _image_shape(image_shape)
        self._arguments = {
            "image_shape": list(shape), "target": target, "encoder": type(encoder).__name__, "attention": attention,
            "embedding_size": embedding_size, "cell": cell, "hidden_size": hidden_size, "num_layers": num_layers,
            "dropout": dropout,
        }  # fmt: skip
        if isinstance(encoder, nn.Module):
            self.encoder = encoder
            self.feature_shape = _feature_shape(encoder, shape)
        else:
            self.feature_shape = _map_shape(shape, encoder)
            self.encoder = _convolutions(shape[0], encoder)
            self._arguments["encoder"] = list(encoder)
        features = math.prod(self.feature_shape)
        size = num_layers * hidden_size
        self.bridge_h = nn.Sequential(nn.Linear(features, size, bias=False), nn.LayerNorm(size))
        if cell == "lstm":
            self.bridge_c = nn.Sequential(nn.Linear(features, size, bias=False), nn.LayerNorm(size))
        self._add_decoder(
            attention, self.feature_shape[0], embedding_size or hidden_size, cell, hidden_size, num_layers, dropout
        )

    def _config(self) -> dict[str, Any]:
        return dict(self._arguments)

    # ---- the network

    def encode(self, images: Tensor) -> DecoderState:
        """Images (N, C, H, W) -> where the decoder begins."""
        features = self.encoder(images.astype(pydl.float32))
        count, layers = features.shape[0], self.decoder.num_layers
        flat = features.reshape((count, -1))

        def by_layer(state: Tensor) -> Tensor:
            return pydl.swap_axes(state.reshape((count, layers, -1)), 0, 1)

        h = by_layer(pydl.tanh(self.bridge_h(flat)))
        c = by_layer(self.bridge_c(flat)) if isinstance(self.decoder, nn.LSTM) else None
        if self.attention is None:
            return DecoderState(h, c, None)
        values = pydl.swap_axes(features.reshape((count, self.feature_shape[0], -1)), 1, 2)
        return DecoderState(h, c, Memory(values, self.attention.key(values), None))

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """The logits of each next token.

        Args:
            images: (N, C, H, W).
            target: what the decoder reads, (N, T) ids that begin with the start token; in training with
                ``teacher_forcing`` below 1, only with that probability.

        Returns:
            (N, T, V).
        """
        return self._logits(self.encode(images), target)

    # ---- what SequenceWriter asks for

    def _sources(self, where: str, x: Any) -> Array:
        wanted = f"(N, {', '.join(map(str, self.image_shape))})"
        try:
            images: Array = x.detach().cpu().numpy() if isinstance(x, pydl.Tensor) else np.asarray(x)
        except ValueError:
            raise ValueError(f"[{where}] got images of different sizes, expected one array {wanted}") from None
        if images.dtype.kind not in "biuf":
            raise TypeError(f"[{where}] got images of {images.dtype}, expected numbers of shape {wanted}")
        if images.shape[1:] != self.image_shape:
            way = "; put in the channel, images[:, None]" if images.shape[1:] == self.image_shape[1:] else ""
            way = "; one image is images[None]" if images.shape == self.image_shape else way
            raise ValueError(f"[{where}] got images of shape {images.shape}, expected {wanted}{way}")
        if len(images) == 0:
            raise ValueError(f"[{where}] got no images, expected at least one")
        if images.dtype != np.uint8:
            with np.errstate(over="ignore"):  # it is told below
                images = images.astype(np.float32)
            finite = np.isfinite(images).reshape(len(images), -1).all(axis=1)
            if not finite.all():
                raise ValueError(f"[{where}] image {int(finite.argmin())} has values that are NaN or infinite")
        return images

    def _inputs(self, rows: list[Array]) -> tuple[Tensor, ...]:
        return (pydl.asarray(np.stack(rows)),)

    def _begin(self, padded: Tensor, lengths: Tensor) -> DecoderState:
        return self.encode(padded)  # of one shape, so that nothing was padded

    def _places(self, row: Array) -> tuple[int, ...]:
        return self.feature_shape[1:]

    # ---- files

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, encoder: nn.Module | None = None) -> Captioner:
        """The model in a file that `save` wrote.

        Args:
            encoder: a module like the one that the saved model was made with, whose weights are replaced; None
                (default) where that was the CNN.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is damaged, or of another kind of model, or `encoder` is missing or not wanted.
        """
        found = read_config(cls, path).get("encoder")
        if isinstance(found, str) != (encoder is not None):
            is_own = f"the module {found}, of which it has the weights alone: load(path, encoder=...) wants one like it"
            raise ValueError(
                f"[Captioner.load] {os.fspath(path)}: its encoder is "
                + (is_own if encoder is None else f"the CNN with the channels {found}; leave out encoder")
            )
        return cls._load(path, {} if encoder is None else {"encoder": encoder})

    @classmethod
    def _check(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super()._check(config, weights)
        channels, shape = config["encoder"], _image_shape(config["image_shape"])
        own = isinstance(channels, nn.Module)
        features = math.prod(_feature_shape(channels, shape) if own else _map_shape(shape, channels))
        expected: dict[str, tuple[int, ...]] = {
            "bridge_h.0.weight": (config["num_layers"] * config["hidden_size"], features)
        }
        for i, (before, after) in enumerate(() if own else zip([shape[0], *channels], channels)):
            expected[f"encoder.{1 + 4 * i}.weight"] = (after, before, 3, 3)
        try:
            check_shapes(weights, expected)
        except ValueError as error:
            what = type(channels).__name__ if own else channels
            raise ValueError(
                f"encoder is {what} for images {shape}, which are not the sizes of its weights: {error}"
            ) from None


def _image_shape(given: Any) -> tuple[int, ...]:
    """(C, H, W), checked."""
    if not isinstance(given, (tuple, list)):
        raise ValueError(f"[Captioner] got image_shape {given!r}, expected (C, H, W)")
    shape = tuple(n.item() if isinstance(n, np.integer) else n for n in given)
    if len(shape) != 3 or not all(type(n) is int and n > 0 for n in shape) or math.prod(shape) > _LARGEST:
        raise ValueError(f"[Captioner] got image_shape {given}, expected (C, H, W), 1 or more each")
    return shape


def _feature_shape(encoder: nn.Module, image_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of what a user's encoder gives for an image: of none, which takes no memory, if it can tell that."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with pydl.no_grad():
            for count in (0, 1):
                try:
                    found = encoder(pydl.zeros((count, *image_shape)))
                except Exception:
                    if count:
                        raise
                    continue
                shape = tuple(found.shape) if isinstance(found, pydl.Tensor) else ()
                if len(shape) in (2, 4) and shape[0] == count and 0 not in shape[1:]:
                    return shape[1:]
    finally:
        for module, mode in modes:
            module.training = mode
    raise ValueError(
        f"[Captioner] the encoder gives {shape or type(found).__name__} for an image"
        f" (1, {', '.join(map(str, image_shape))}), expected features (N, F) or a map (N, F, h, w)"
    )


def _map_shape(image_shape: Sequence[int], channels: Sequence[int]) -> tuple[int, ...]:
    """(F, h, w) of the CNN with these channels."""
    if not isinstance(channels, (tuple, list)) or not channels or not all(type(n) is int and n > 0 for n in channels):
        raise ValueError(f"[Captioner] got encoder {channels!r}, expected numbers of channels, or a module")
    height, width = (size >> len(channels) for size in image_shape[1:])
    if height < 1 or width < 1:
        raise ValueError(
            f"[Captioner] got images of {image_shape[1]} x {image_shape[2]}, too small to be halved {len(channels)}"
            " times; give encoder fewer channels"
        )
    return channels[-1], height, width


def _convolutions(before: int, channels: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.BatchNorm2d(before, affine=False)]
    for after in channels:
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        before = after
    return nn.Sequential(*layers)
