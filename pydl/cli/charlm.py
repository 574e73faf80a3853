"""`pydl charlm train`, `sample` and `inspect`: a character-level language model on any text."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

import pydl
from pydl.cli import INTERRUPTED, CommandError, describe, input_errors, inspect
from pydl.models.char_lm import CharLM
from pydl.nn import quantize_dynamic
from pydl.text.reading import Corpus, read_texts, standard_library
from pydl.train.char_lm import (
    CHECKPOINT,
    CharLMTrainer,
    DivergedError,
    SavedRun,
    TrainingObserver,
)
from pydl.train.char_lm_options import DEFAULT_EPOCHS, TrainingOptions
from pydl.train.progress import Bar, format_count, format_seconds, use_color

_DEFAULTS = TrainingOptions()


def add_parser(commands: Any) -> None:
    """Adds the commands to a parser's subparsers."""
    group = commands.add_parser("charlm", help="character-level language models", description=__doc__)
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_train(actions)
    _add_sample(actions)
    _add_threads(inspecting := inspect.add_parser(actions))
    inspecting.set_defaults(run=lambda arguments: inspect.run(arguments, _set_threads))


def _add_train(actions: Any) -> None:
    train = actions.add_parser(
        "train",
        help="train on text files, or go on with a run",
        description="Trains a character-level language model. The first Ctrl-C finishes the step and saves.",
        argument_default=argparse.SUPPRESS,  # so that it is known which flags were given
    )
    train.set_defaults(run=_train)
    train.add_argument(
        "files",
        metavar="FILE|FOLDER",
        nargs="*",
        default=[],
        help="UTF-8 text, or folders of it; default: the source code of Python's standard library",
    )
    train.add_argument("--out", metavar="DIR", required=True, help="the run's folder: checkpoint, history, samples")
    train.add_argument("--resume", action="store_true", default=False, help="go on with the run in DIR")

    def option(flag: str, kind: Any, text: str, **more: Any) -> None:
        default = more.pop("default", getattr(_DEFAULTS, flag[2:].replace("-", "_")))
        train.add_argument(flag, type=kind, help=f"{text}; default {default}", **more)
        # argument_default leaves it out of the result when it is not given

    option("--cell", str, "kind of recurrent layer", choices=("lstm", "gru", "rnn"))
    option("--hidden", int, "hidden units in a layer", metavar="H")
    option("--layers", int, "recurrent layers", metavar="L")
    option("--embed", int, "size of the embedding", metavar="E", default="H")
    option("--dropout", float, "probability of dropping a layer's output", metavar="P")
    option("--seq-length", int, "characters that gradients reach back", metavar="T")
    option("--batch-size", int, "rows of text read in parallel", metavar="B")
    option("--epochs", int, "passes over the text", metavar="N", default=f"{DEFAULT_EPOCHS}, or as --max-iters says")
    option("--max-iters", int, "iterations (chunks) at most", metavar="N", default="no limit")
    option("--lr", float, "Adam's learning rate", metavar="R")
    option("--lr-decay", float, "factor for the learning rate after each epoch", metavar="F")
    option("--grad-clip", float, "gradients are cut off at plus and minus this, 0 is never", metavar="C")
    option("--val-frac", float, "last part of the text, held back for validation", metavar="F")
    option("--seed", int, "seed of the weights, dropout and samples", metavar="S")
    option("--eval-every", int, "iterations between evaluations", metavar="N", default="an epoch")
    option("--sample-every", int, "iterations between samples", metavar="N", default="an epoch")
    option("--save-every", int, "iterations between checkpoints", metavar="N")
    _add_threads(train)


def _add_sample(actions: Any) -> None:
    sample = actions.add_parser(
        "sample",
        help="let a trained model write",
        description="Writes text, character by character. The same flags give the same text.",
    )
    sample.set_defaults(run=_sample)
    sample.add_argument("directory", metavar="DIR", help="the folder of a run, or a file of a model")
    sample.add_argument("--start", metavar="TEXT", default="", help="what the text begins with; default a line break")
    sample.add_argument("--length", metavar="N", type=int, default=500, help="characters to write; default 500")
    heat = sample.add_mutually_exclusive_group()
    heat.add_argument(
        "--temperature", metavar="X", type=float, default=1.0, help="less is bolder, more is wilder; default 1"
    )
    heat.add_argument("--greedy", action="store_true", help="always the most probable character; temperature 0")
    sample.add_argument("--top-k", metavar="K", type=int, help="draw from the K most probable characters")
    sample.add_argument("--top-p", metavar="P", type=float, help="draw from the fewest that have this probability")
    sample.add_argument("--seed", metavar="S", type=int, default=0, help="of the random numbers; default 0")
    sample.add_argument("--int8", action="store_true", help="round the weights to 8 bits; quicker where they are many")
    _add_threads(sample)


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads", metavar="N", type=int, default=None, help="default: as many as the process may use"
    )


def _set_threads(arguments: argparse.Namespace) -> None:
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise CommandError(f"got --threads {arguments.threads}, expected 1 or more")
        pydl.set_num_threads(arguments.threads)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _train(arguments: argparse.Namespace) -> int:
    names = [field.name for field in fields(TrainingOptions)]
    given = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    try:
        options = TrainingOptions(**given)
    except ValueError as error:
        words = describe(error).split(" ")
        raise CommandError(" ".join([words[0], _flag(words[1]), *words[2:]])) from None
    _set_threads(arguments)
    directory = Path(arguments.out)
    if directory.exists() and not directory.is_dir():
        raise CommandError(f"--out {directory}: it is a file, expected a folder")
    if arguments.resume and (SavedRun.exists(directory) or not arguments.files):
        trainer = _resumed(directory, arguments.files, given)
    else:
        if SavedRun.exists(directory):
            raise CommandError(
                f"--out {directory}: the folder has a run already, nothing was changed; add --resume to go on with it"
            )
        trainer = _new(directory, arguments.files, options)
    return _run_training(trainer)


def _read(files: Sequence[str]) -> Corpus:
    return read_texts(files) if files else standard_library()


def _report_text(corpus: Corpus, files: Sequence[str]) -> None:
    what = "Python's standard library" if not files else str(corpus.files[0]) if len(corpus.files) == 1 else "text"
    of = f", {len(corpus.files)} files" if len(corpus.files) != 1 else ""
    print(f"{what}{of}: {len(corpus.text):,} characters")
    for path, reason in corpus.skipped[:3]:
        print(f"  passed over {path}: {reason}")
    if len(corpus.skipped) > 3:
        print(f"  passed over {len(corpus.skipped) - 3} more files")


def _new(directory: Path, files: Sequence[str], options: TrainingOptions) -> CharLMTrainer:
    with input_errors():
        corpus = _read(files)
        _report_text(corpus, files)
        sources = [os.path.abspath(file) for file in files]
        return CharLMTrainer(corpus.text, directory, options, sources=sources)


def _resumed(directory: Path, files: Sequence[str], given: Mapping[str, Any]) -> CharLMTrainer:
    if not (directory / CHECKPOINT).exists():
        raise CommandError(f"--resume: {directory} has no {CHECKPOINT}; nothing to go on with")
    with input_errors():
        saved = SavedRun.read(directory)
        contradictions = saved.options.contradictions(given)
        if contradictions:
            listed = ", ".join(f"{_flag(name)} {new} (it has {had})" for name, (new, had) in contradictions.items())
            raise CommandError(f"the run in {directory} was started otherwise: {listed}; leave that out, or start anew")
        files = files or saved.sources
        corpus = _read(files)
        _report_text(corpus, files)
        return CharLMTrainer.resume(saved, corpus.text, given)


class _Screen(TrainingObserver):
    """Shows a run: results on stdout, the bar on stderr."""

    def __init__(self, trainer: CharLMTrainer) -> None:
        options = trainer.options
        self._bar = Bar(trainer.total, trainer.iteration, scale=options.batch_size * options.seq_length, unit="char")
        self._dim, self._plain = ("\x1b[2m", "\x1b[0m") if use_color(sys.stdout) else ("", "")
        self._loss = math.nan

    def on_start(self, trainer: CharLMTrainer) -> None:
        options, model = trainer.options, trainer.model
        parameters = sum(math.prod(parameter.shape) for parameter in model.parameters())
        print(
            f"model: {options.cell}, {options.layers} x {options.hidden}, embedding {options.embed},"
            f" {len(model.vocabulary)} different characters, {parameters:,} parameters"
        )
        threads = pydl.get_num_threads()
        print(
            f"run: {trainer.total:,} iterations of {options.batch_size} x {options.seq_length} characters,"
            f" {len(trainer.stream):,} an epoch; {threads} thread{'s' * (threads > 1)}; {trainer.directory}"
        )
        if trainer.iteration:
            print(f"goes on after iteration {trainer.iteration:,}")
        sys.stdout.flush()
        self._bar.pause()

    def on_step(self, trainer: CharLMTrainer, loss: float) -> None:
        # Losses of single chunks jump: what is shown is their running mean.
        self._loss = loss if math.isnan(self._loss) else self._loss + 0.05 * (loss - self._loss)
        bits = self._loss / math.log(2.0)
        self._bar.update(trainer.iteration, f"loss {self._loss:.3f}  {bits:.3f} bits/char")

    def on_evaluation(self, trainer: CharLMTrainer, row: Mapping[str, float | None]) -> None:
        text = f"epoch {row['epoch']:.2f}, iteration {row['iteration']:,}: train {row['train_loss']:.4f}"
        if row["val_loss"] is None:
            text += f" nats, {row['train_bpc']:.4f} bits/char"
        else:
            text += f", validation {row['val_loss']:.4f} nats, {row['val_bpc']:.4f} bits/char"
        self._print(text)

    def on_sample(self, trainer: CharLMTrainer, sample: Mapping[str, Any]) -> None:
        text = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in sample["text"])
        indented = "\n".join("  | " + line for line in text.strip("\n").split("\n"))
        self._print(f"{self._dim}{indented}{self._plain}")

    def close(self) -> None:
        self._bar.clear()

    def _print(self, text: str) -> None:
        self._bar.clear()
        print(text, flush=True)
        self._bar.pause()


@contextmanager
def _stop_on_signals(trainer: CharLMTrainer) -> Iterator[list[int]]:
    """The first Ctrl-C (or SIGTERM) stops the run after its step, the second one ends the process at once."""
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        trainer.stop()
        for each in previous:
            signal.signal(each, signal.SIG_DFL)
        # os.write, since the handler may have interrupted a write to the very stream.
        os.write(2, b"\nfinishing the step and saving; once more ends at once\n")

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, handle)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run_training(trainer: CharLMTrainer) -> int:
    if trainer.finished:
        print(f"the run in {trainer.directory} is finished after {trainer.iteration:,} iterations; more with --epochs")
        trainer.fit()  # its files are made whole, should any have been lost
        return 0
    screen = _Screen(trainer)
    trainer.observer = screen
    begin, first = time.monotonic(), trainer.iteration
    with _stop_on_signals(trainer) as received:
        try:
            trainer.fit()
        except DivergedError as error:
            raise CommandError(describe(error), 1) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CommandError(f"{describe(error)}; the checkpoint before it is whole, see --resume", 1) from None
        finally:
            screen.close()
    seconds = time.monotonic() - begin
    done = (trainer.iteration - first) * trainer.options.batch_size * trainer.options.seq_length
    print(
        f"{'done' if trainer.finished else 'stopped'} after iteration {trainer.iteration:,}: {format_count(done)}"
        f" characters in {format_seconds(seconds)}, {format_count(done / seconds)} a second"
    )
    if trainer.finished:
        print(f"let it write: pydl charlm sample {trainer.directory}")
        return 0
    print(f"go on with: pydl charlm train --out {trainer.directory} --resume")
    return 128 + received[0] if received else INTERRUPTED


def _sample(arguments: argparse.Namespace) -> int:
    _set_threads(arguments)
    path = Path(arguments.directory)
    with input_errors():
        model = CharLM.load(path / CHECKPOINT if path.is_dir() else path)
        if arguments.int8:
            model = quantize_dynamic(model)
        text = model.stream(
            arguments.start,
            arguments.length,
            temperature=0.0 if arguments.greedy else arguments.temperature,
            top_k=arguments.top_k,
            top_p=arguments.top_p,
            seed=arguments.seed,
        )
    write, flush = sys.stdout.write, sys.stdout.flush
    live = sys.stdout.isatty()
    write(arguments.start)
    last = arguments.start[-1:]
    for last in text:
        write(last)
        if live:
            flush()
    if last != "\n":
        write("\n")
    return 0
