"""`pydl charlm inspect`: a page that shows what the units of a character model do over a text."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydl.cli import CommandError, input_errors
from pydl.models.char_lm import CharLM
from pydl.models.inspection_page import write_inspection_page
from pydl.serialization import load_metadata
from pydl.text.reading import read_text
from pydl.train.char_lm import CHECKPOINT
from pydl.train.progress import Bar, format_count


def add_parser(actions: Any) -> argparse.ArgumentParser:
    """Adds the command to a parser's subparsers."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "inspect",
        help="look inside: a text coloured by any unit, as one HTML page",
        description="Lets a trained model read a text and writes a page that shows what its units do. It needs no"
        " network; any browser opens it.",
    )
    parser.add_argument("directory", metavar="DIR", help="the folder of a run, or a file of a model")
    parser.add_argument("file", metavar="FILE", help="UTF-8 text of characters that the model knows")
    parser.add_argument("--out", metavar="PAGE", required=True, help="the page to write, such as page.html")
    parser.add_argument("--length", metavar="N", type=int, default=3000, help="characters to show; default 3000")
    parser.add_argument(
        "--measure", metavar="N", type=int, default=20_000, help="characters that units are scored on; default 20000"
    )
    parser.add_argument(
        "--layer",
        metavar="L",
        type=int,
        action="append",
        help="a layer to show, from 1; repeatable; default all",
    )
    return parser


def run(arguments: argparse.Namespace, set_threads: Callable[[argparse.Namespace], None]) -> int:
    for name in ("length", "measure"):
        if getattr(arguments, name) < 1:
            raise CommandError(f"got --{name} {getattr(arguments, name)}, expected 1 or more")
    set_threads(arguments)
    path, page = Path(arguments.directory), Path(arguments.out)
    if page.is_dir():
        raise CommandError(f"--out {page}: it is a folder, expected a file")
    if not page.parent.is_dir():
        raise CommandError(f"--out {page}: there is no folder {page.parent}; make it first")
    with input_errors():
        checkpoint = path / CHECKPOINT if path.is_dir() else path
        model = CharLM.load(checkpoint)
        layers = arguments.layer and _layers(arguments.layer, model.num_layers)
        text = read_text(arguments.file)
        if page.exists() and any(page.samefile(used) for used in (checkpoint, arguments.file)):
            raise CommandError(f"--out {page}: it is an input of this command, which was left as it was")
        bar = Bar(min(len(text), max(arguments.length, arguments.measure)), unit="char")
        try:
            write_inspection_page(
                page,
                model,
                text,
                length=arguments.length,
                measure=arguments.measure,
                layers=layers,
                title=Path(arguments.file).name,
                samples=_samples(checkpoint),
                progress=bar.update,
            )
        finally:
            bar.clear()
    shown = min(arguments.length, len(text))
    print(f"{page}: {shown:,} of {len(text):,} characters, {format_count(page.stat().st_size)}B; open it in a browser")
    return 0


def _layers(given: list[int], count: int) -> list[int]:
    for layer in given:
        if not 1 <= layer <= count:
            raise CommandError(f"got --layer {layer}, expected 1 to {count}: the model has {count}")
    return [layer - 1 for layer in given]


def _samples(checkpoint: Path) -> list[dict[str, Any]]:
    """What a run's model wrote while it learned; nothing where the file is of a model alone."""
    training = load_metadata(checkpoint).get("training")
    if training is None:
        return []
    try:
        samples = json.loads(training)["samples"]
        return [{"iteration": int(s["iteration"]), "epoch": float(s["epoch"]), "text": str(s["text"])} for s in samples]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint}: the checkpoint is damaged: {error!s}") from None
