"""One HTML page that shows a text coloured by the units of a CharLM. It needs nothing beside itself, and no network."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pydl._atomic import atomic_write
from pydl.models.char_lm import CharLM
from pydl.models.inspection import UnitScores, iterate_states
from pydl.text.features import text_features

__all__ = ["inspection_page", "write_inspection_page"]

_MAX_BYTES = 64 << 20  # of recorded states on a page; browsers cope with that
_CHUNK = 512
_COUNTS = ("bracket depth", "position in line", "indentation")  # all other features are yes or no
_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")


def inspection_page(
    model: CharLM,
    text: str,
    *,
    length: int = 3000,
    measure: int = 20_000,
    layers: Sequence[int] | None = None,
    title: str = "",
    samples: Iterable[Mapping[str, Any]] = (),
    progress: Callable[[int], None] | None = None,
) -> str:
    """A page, as HTML, that shows what the units of a model do while it reads a text.

    The text is coloured by the value of one unit: h, or tanh(c) of a cell state, from -1 to 1. Units are sorted by how
    well they follow a feature of the text (`pydl.text.text_features`), measured by `UnitScores`. Pointing at a
    character shows the five characters that the model expects next.

    Args:
        model: as trained or quantized.
        text: what is read, of the vocabulary's characters; only as much as is shown or measured.
        length: characters shown from the beginning of the text, at most.
        measure: characters that the scores are measured on, at most; at least those shown.
        layers: the layers to show, counted from 0; default all.
        title: the page's heading.
        samples: what the model wrote while it learned: mappings with "iteration", "epoch" and "text".
        progress: called now and then with the number of characters read so far.

    Raises:
        TypeError: `model` is no CharLM, or `text` no string.
        ValueError: `text` is empty or has unknown characters, which are named; `length` or `measure` is below 1; there
            is no such layer; the page would hold more than 64 MiB of states.

    Example:
        >>> text = "to be or not to be"
        >>> page = inspection_page(CharLM(text, hidden_size=8), text, title="Hamlet")
        >>> page.startswith("<!DOCTYPE html>"), "http://" in page
        (True, False)
    """
    for name, value in (("length", length), ("measure", measure)):
        if value < 1:
            raise ValueError(f"[inspection_page] got {name} {value}, expected 1 or more")
    if not isinstance(text, str):
        raise TypeError(f"[inspection_page] got a text of type {type(text).__name__}, expected str")
    text = text[: max(length, measure)]
    shown = text[:length]
    records = iterate_states(model, text, chunk=_CHUNK)  # checks the model and the text
    chosen = _chosen_layers(model, layers)
    kinds = ("h", "c") if model.cell == "lstm" else ("h",)
    size = len(shown) * len(chosen) * model.hidden_size * len(kinds)
    if size > _MAX_BYTES:
        most = _MAX_BYTES * len(shown) // size
        raise ValueError(
            f"[inspection_page] got length {len(shown)} of {len(chosen)} layers of {model.hidden_size} units: too much"
            f" for a page; show at most {most} characters, or fewer layers"
        )
    features = {name: column for name, column in text_features(text).items() if column.min() != column.max()}
    codes = {kind: np.empty((len(chosen), model.hidden_size, len(shown)), np.int8) for kind in kinds}
    scores = {kind: UnitScores() for kind in kinds}
    ids, odds = [], []
    begin = 0
    for record in records:
        end = begin + len(record)
        stop = min(end, len(shown))
        for kind in kinds:
            recorded = np.tanh(record.c) if kind == "c" and record.c is not None else record.h
            values = recorded[:, chosen]
            scores[kind].update(values, {name: column[begin:end] for name, column in features.items()})
            if begin < stop:
                codes[kind][:, :, begin:stop] = np.rint(127 * values[: stop - begin]).transpose(1, 2, 0)
        if begin < stop:
            ids.append(record.top_ids[: stop - begin])
            odds.append(record.top_probabilities[: stop - begin])
        begin = end
        if progress is not None:
            progress(end)
    correlations = {kind: each.result() for kind, each in scores.items()}
    content = {
        "title": title or "A text",
        "about": f"{model.cell}, {model.num_layers} x {model.hidden_size} units, vocabulary of {len(model.vocabulary)};"
        f" {len(shown):,} characters shown, read from the first one on. Colours are the unit's value once the character"
        " has been read.",
        "text": shown,
        "symbols": model.vocabulary.symbols,
        "hidden": model.hidden_size,
        "layers": chosen,
        "measured": len(text),
        "states": {kind: _base64(code, "int8") for kind, code in codes.items()},
        "top": ids[0].shape[1],
        "top_ids": _base64(np.concatenate(ids), "<u4"),
        "top_odds": _base64(np.rint(65535 * np.concatenate(odds)), "<u2"),
        "features": [
            {
                "name": name,
                "binary": name not in _COUNTS,
                "values": _base64(column[: len(shown)].clip(0, 65535), "<u2"),
                "scores": {kind: r[name].reshape(-1).round(3).tolist() for kind, r in correlations.items()},
            }
            for name, column in features.items()
        ],
        "samples": [{key: sample[key] for key in ("iteration", "epoch", "text")} for sample in samples],
    }
    template = Path(__file__).with_suffix(".html").read_text("utf-8")
    return template.replace("@DATA@", _script_json(content))


def write_inspection_page(path: str | os.PathLike[str], model: CharLM, text: str, **options: Any) -> None:
    """Writes the page of `inspection_page` to a file, atomically; the options are the same.

    Raises:
        TypeError, ValueError: as `inspection_page`; nothing is written.
        OSError: the file cannot be written.
    """
    page = inspection_page(model, text, **options)
    with atomic_write(path, "w") as file:
        file.write(page)


def _chosen_layers(model: CharLM, layers: Sequence[int] | None) -> list[int]:
    if layers is None:
        return list(range(model.num_layers))
    chosen = sorted(set(layers))
    outside = [layer for layer in chosen if not 0 <= layer < model.num_layers]
    if outside or not chosen:
        raise ValueError(
            f"[inspection_page] got layers {list(layers)}, expected some of 0 to {model.num_layers - 1}: the model has"
            f" {model.num_layers}"
        )
    return chosen


def _base64(array: npt.NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode("ascii")


def _script_json(content: Any) -> str:
    """JSON for the inside of a script element: ASCII only, and no "<" that could end the element."""
    text = json.dumps(_without_surrogates(content), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _without_surrogates(content: Any) -> Any:
    # Two lone ones side by side would become one character in the browser.
    if isinstance(content, str):
        return content if content.isascii() else content.translate(_SURROGATES)
    if isinstance(content, dict):
        return {key: _without_surrogates(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_surrogates(value) for value in content]
    return content
