"""Training of a CharLM by truncated backpropagation through time, in a folder from which it can always go on.

The text is walked along in chunks (pydl.text.stream). The recurrent state is carried from chunk to chunk and the
gradient is not, so memory does not grow with the text. The folder has three files, each replaced as a whole:

    checkpoint.safetensors  weights, optimizer, carried state, random generator, position, and all of the records below
    history.csv             one row for each evaluation
    samples.txt             text written by the model at fixed points

A run is a function of its text and its options. Everything that decides how it goes on is in the checkpoint; the
other two files are made from the records in it. So a run killed at any moment and resumed ends with the same bytes as
one that was not: what was recorded after the last checkpoint is cut back, done again, and comes out the same. Times
go to no file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import pydl
from pydl import nn, optim
from pydl._atomic import atomic_write, remove_leftovers
from pydl.models.char_lm import TRAINING_PREFIX, CharLM
from pydl.serialization import load_file, load_metadata, save_file
from pydl.text.stream import Chunk, ChunkStream, split_tail
from pydl.text.vocabulary import CharVocabulary
from pydl.train.char_lm_options import TrainingOptions

if TYPE_CHECKING:
    from pydl import Tensor
    from pydl.models.char_lm import State

CHECKPOINT = "checkpoint.safetensors"
HISTORY = "history.csv"
SAMPLES = "samples.txt"

SAMPLE_LENGTH = 300
SAMPLE_TEMPERATURE = 0.8

_EVALUATION_ROW = 5_000  # characters

_COLUMNS = ("iteration", "epoch", "learning_rate", "train_loss", "train_bpc", "val_loss", "val_bpc")
_MOMENTS = ("exp_avg", "exp_avg_sq")


class DivergedError(ArithmeticError):
    """The loss or a weight is no longer a finite number."""


class TrainingObserver:
    """Hears of what happens; every method does nothing until a subclass has something to say."""

    def on_start(self, trainer: CharLMTrainer) -> None:
        """Before the first step, in a new run and in a resumed one."""

    def on_step(self, trainer: CharLMTrainer, loss: float) -> None:
        """After each step; `loss` is the chunk's, in nats per character."""

    def on_evaluation(self, trainer: CharLMTrainer, row: Mapping[str, float | None]) -> None:
        """After each evaluation; `row` is the new row of the history."""

    def on_sample(self, trainer: CharLMTrainer, sample: Mapping[str, Any]) -> None:
        """After each sample; it has iteration, epoch and text."""


@dataclass(frozen=True)
class SavedRun:
    """A checkpoint, read: what is needed to decide whether and how to go on.

    Attributes:
        directory: where the run is.
        options: those of the run.
        sources: what the text was read from, in the words of whoever started the run.
        iteration: where it stands.
    """

    directory: Path
    options: TrainingOptions
    sources: tuple[str, ...]
    iteration: int
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    progress: Mapping[str, Any]

    @classmethod
    def exists(cls, directory: str | os.PathLike[str]) -> bool:
        """Whether the folder has a run, or what one left behind."""
        return any(Path(directory, name).exists() for name in (CHECKPOINT, HISTORY, SAMPLES))

    @classmethod
    def read(cls, directory: str | os.PathLike[str]) -> SavedRun:
        """The run in a folder.

        Raises:
            OSError: there is none, or it cannot be read.
            ValueError: the checkpoint is damaged, or of something else.
        """
        path = Path(directory, CHECKPOINT)
        metadata = load_metadata(path)
        if "training" not in metadata:
            raise ValueError(f"[SavedRun.read] {path}: got no state of a training, expected a run's checkpoint")
        try:
            progress = json.loads(metadata["training"])
            options = TrainingOptions(**progress["options"])
            sources, iteration = tuple(progress["sources"]), int(progress["iteration"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"[SavedRun.read] {path}: the checkpoint is damaged: {error!s}") from None
        return cls(Path(directory), options, sources, iteration, load_file(path), metadata, progress)


class CharLMTrainer:
    """One run: fit() trains to the end, or until stop() is called.

    Args:
        text: what is learned.
        directory: the run's folder; made where it is missing.
        options: what to do.
        sources: what the text was read from, kept in the checkpoint.
        observer: hears of progress.

    Raises:
        FileExistsError: the folder has a run already; see `resume`.
        ValueError: the text is too short for the options.
        OSError: the folder cannot be made or written to.

    Example:
        >>> import tempfile
        >>> options = TrainingOptions(hidden=8, layers=1, seq_length=5, batch_size=2, max_iters=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = CharLMTrainer("to be or not to be, that is the question", folder, options)
        ...     trainer.fit()
        ...     sorted(os.listdir(folder)), trainer.iteration
        (['checkpoint.safetensors', 'history.csv', 'samples.txt'], 3)
    """

    def __init__(
        self,
        text: str,
        directory: str | os.PathLike[str],
        options: TrainingOptions | None = None,
        *,
        sources: Sequence[str] = (),
        observer: TrainingObserver | None = None,
    ) -> None:
        options = options or TrainingOptions()
        if SavedRun.exists(directory):
            raise FileExistsError(
                17, "The folder has a run already; resume it or choose another folder", str(directory)
            )
        pydl.manual_seed(options.seed)
        model = CharLM(
            CharVocabulary.from_text(text),
            cell=options.cell,
            hidden_size=options.hidden,
            num_layers=options.layers,
            embedding_size=options.embed,
            dropout=options.dropout,
        )
        self._set_up(model, text, Path(directory), options, tuple(sources), observer)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.save()

    @classmethod
    def resume(
        cls,
        saved: SavedRun,
        text: str,
        changes: Mapping[str, Any] | None = None,
        *,
        observer: TrainingObserver | None = None,
    ) -> CharLMTrainer:
        """Goes on with a run.

        Args:
            saved: the run.
            text: the same text.
            changes: options to change: how far to go and how often to save, nothing else.
            observer: hears of progress.

        Raises:
            ValueError: the text has changed, an option contradicts the run, or the checkpoint is damaged.
        """
        changes = changes or {}
        for name, (given, had) in saved.options.contradictions(changes).items():
            raise ValueError(f"[CharLMTrainer.resume] got {name} {given!r}, but the run has {had!r}; start another run")
        path = saved.directory / CHECKPOINT
        trainer = cls.__new__(cls)
        model = CharLM.from_tensors(saved.tensors, saved.metadata, path)
        if saved.progress.get("text_sha256") != _digest(text):
            raise ValueError(
                "[CharLMTrainer.resume] the text is not the one the run began with; restore it or start another run"
            )
        trainer._set_up(model, text, saved.directory, saved.options.with_goal(changes), saved.sources, observer)
        try:
            trainer._restore(saved)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"[CharLMTrainer.resume] {path}: the checkpoint is damaged: {error!s}") from None
        return trainer

    def _set_up(
        self,
        model: CharLM,
        text: str,
        directory: Path,
        options: TrainingOptions,
        sources: tuple[str, ...],
        observer: TrainingObserver | None,
    ) -> None:
        self.model = model
        self.directory = directory
        self.options = options
        self.sources = sources
        self.observer = observer or TrainingObserver()
        ids = model.vocabulary.encode(text, model.vocabulary.dtype)
        training, self.validation = split_tail(ids, options.val_frac)
        needed = options.batch_size * options.seq_length + 1
        if training.size < needed:
            raise ValueError(
                f"[CharLMTrainer] got a text of {ids.size} characters, {training.size} of them to train on, expected at"
                f" least {needed}: one chunk of batch_size {options.batch_size} x seq_length {options.seq_length} and"
                " the last target; use a longer text, a smaller batch or shorter chunks"
            )
        if options.val_frac and self.validation.size < 2:
            raise ValueError(
                f"[CharLMTrainer] got a text of {ids.size} characters, of which val_frac {options.val_frac} holds back"
                f" {self.validation.size}, expected 2 or more; use a longer text or val_frac 0"
            )
        self.stream = ChunkStream(training, options.batch_size, options.seq_length)
        self.total = options.total_iterations(len(self.stream))
        self.optimizer = optim.Adam(model.parameters(), lr=options.lr)
        self.state: State | None = None
        self.iteration = 0
        self.history: list[dict[str, float | None]] = []
        self.samples: list[dict[str, Any]] = []
        self._parameters = list(model.parameters())
        self._loss_sum, self._loss_count = 0.0, 0  # since the last row of the history
        self._text_digest = _digest(text)
        self._stop = False

    @property
    def epoch(self) -> float:
        """Passes over the text so far."""
        return self.iteration / len(self.stream)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self.options.lr * self.options.lr_decay ** (self.iteration // len(self.stream))

    @property
    def finished(self) -> bool:
        """Whether all iterations are done."""
        return self.iteration >= self.total

    def stop(self) -> None:
        """Makes fit() end after the step it is in, with everything saved. Any thread or signal handler may call it."""
        self._stop = True

    def fit(self) -> None:
        """Trains until the last iteration, or until stop().

        Raises:
            DivergedError: the loss is not finite; the last checkpoint stays as it was.
            OSError: a file could not be written; the old one stays as it was.
        """
        for name in (CHECKPOINT, HISTORY, SAMPLES):
            remove_leftovers(self.directory, name)
        self.write_records()
        self.observer.on_start(self)
        self.model.train()
        while not (self.finished or self._stop):
            loss = self.train_step(next(self.stream))
            self.iteration += 1
            self._loss_sum += loss
            self._loss_count += 1
            self.observer.on_step(self, loss)
            self._after_step()
        if self._stop and not self.finished:
            self.save()

    def train_step(self, chunk: Chunk) -> float:
        """One step of truncated BPTT; the loss of the chunk before the step, in nats per character."""
        optimizer = self.optimizer
        optimizer.zero_grad()
        loss_tensor, state = self.model.loss(pydl.asarray(chunk.inputs), pydl.asarray(chunk.targets), self.state)
        loss = loss_tensor.item()
        if not math.isfinite(loss):
            raise DivergedError(
                f"[CharLMTrainer] the loss is {loss} at iteration {self.iteration + 1}; use a lower learning rate than"
                f" {self.options.lr}"
            )
        loss_tensor.backward()
        if self.options.grad_clip:
            nn.utils.clip_grad_value_(self._parameters, self.options.grad_clip)
        optimizer.param_groups[0]["lr"] = self.learning_rate
        optimizer.step()
        # The next pass begins at the start of every row, where nothing has been read.
        self.state = None if self.stream.position == 0 else _detached(state)
        return loss

    def _after_step(self) -> None:
        options, last = self.options, self.finished
        recorded = False
        if last or self.iteration % (options.eval_every or len(self.stream)) == 0:
            self._evaluate()
            recorded = True
        if last or self.iteration % (options.sample_every or len(self.stream)) == 0:
            self._sample()
            recorded = True
        if recorded:
            self.write_records()
        if last or self.iteration % options.save_every == 0:
            self.save()

    def _evaluate(self) -> None:
        train_loss = self._loss_sum / self._loss_count
        val_loss = None
        if self.validation.size:
            val_loss = evaluate(self.model, self.validation, self.options.batch_size, self.options.seq_length)
        row = {
            "iteration": self.iteration,
            "epoch": self.epoch,
            "learning_rate": self.optimizer.param_groups[0]["lr"],  # of the last step
            "train_loss": train_loss,
            "train_bpc": train_loss / math.log(2.0),
            "val_loss": val_loss,
            "val_bpc": None if val_loss is None else val_loss / math.log(2.0),
        }
        self._loss_sum, self._loss_count = 0.0, 0
        self.history.append(row)
        self.observer.on_evaluation(self, row)

    def _sample(self) -> None:
        # The seed depends on the iteration alone, so a resumed run draws what it would have drawn.
        seed = (self.options.seed * 0x9E3779B97F4A7C15 + self.iteration) % 2**63
        text = self.model.generate(length=SAMPLE_LENGTH, temperature=SAMPLE_TEMPERATURE, seed=seed)
        sample = {"iteration": self.iteration, "epoch": self.epoch, "text": text}
        self.samples.append(sample)
        self.observer.on_sample(self, sample)

    def write_records(self) -> None:
        """Writes history.csv and samples.txt."""
        rows = [",".join(_COLUMNS)]
        rows += [",".join(_cell(row[column]) for column in _COLUMNS) for row in self.history]
        with atomic_write(self.directory / HISTORY, "w") as file:
            file.write("\n".join(rows) + "\n")
        with atomic_write(self.directory / SAMPLES, "w") as file:
            file.write(samples_text(self.samples))

    def save(self) -> None:
        """Writes the checkpoint.

        Raises:
            DivergedError: a weight is not finite; the old checkpoint stays as it was.
        """
        tensors: dict[str, Tensor] = dict(self.model.state_dict())
        for name, tensor in tensors.items():
            if not np.isfinite(tensor.cpu().numpy()).all():
                raise DivergedError(
                    f"[CharLMTrainer] {name} is not finite at iteration {self.iteration}; use a lower learning rate"
                    f" than {self.options.lr}"
                )
        optimizer_state = self.optimizer.state_dict()["state"]
        for i, name in enumerate(self.model.state_dict()):
            for moment in _MOMENTS:
                if i in optimizer_state:
                    tensors[f"{TRAINING_PREFIX}{moment}.{name}"] = optimizer_state[i][moment]
        if self.state is not None:
            parts = self.state if isinstance(self.state, tuple) else (self.state,)
            for name, part in zip("hc", parts, strict=False):
                tensors[f"{TRAINING_PREFIX}state.{name}"] = part
        tensors[f"{TRAINING_PREFIX}generator"] = pydl.default_generator().get_state()
        progress = {
            "options": {name: value for name, value in asdict(self.options).items() if name != "save_every"},
            "sources": self.sources,
            "text_sha256": self._text_digest,
            "iteration": self.iteration,
            "stream": self.stream.state_dict(),
            "loss_sum": self._loss_sum,
            "loss_count": self._loss_count,
            "history": self.history,
            "samples": self.samples,
        }
        metadata = {**self.model.metadata(), "training": json.dumps(progress)}
        save_file(tensors, self.directory / CHECKPOINT, metadata)

    def _restore(self, saved: SavedRun) -> None:
        tensors, progress = saved.tensors, saved.progress
        self.iteration = saved.iteration
        self.stream.load_state_dict(progress["stream"])
        if divmod(self.iteration, len(self.stream)) != (self.stream.epoch, self.stream.position):
            raise ValueError(f"iteration {self.iteration} does not fit the position {progress['stream']}")
        self._loss_sum, self._loss_count = float(progress["loss_sum"]), int(progress["loss_count"])
        self.history = [{column: row[column] for column in _COLUMNS} for row in progress["history"]]
        self.samples = [{key: sample[key] for key in ("iteration", "epoch", "text")} for sample in progress["samples"]]
        if self.iteration:
            moments = {
                i: {"step": self.iteration, **{m: tensors[f"{TRAINING_PREFIX}{m}.{name}"] for m in _MOMENTS}}
                for i, name in enumerate(self.model.state_dict())
            }
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.stream.position:
            h = tensors[f"{TRAINING_PREFIX}state.h"]
            self.state = (h, tensors[f"{TRAINING_PREFIX}state.c"]) if self.model.cell == "lstm" else h
        pydl.default_generator().set_state(tensors[f"{TRAINING_PREFIX}generator"])


def samples_text(samples: Sequence[Mapping[str, Any]]) -> str:
    """Samples with iteration, epoch and text, one below the other."""
    return "".join(f"--- iteration {s['iteration']}, epoch {s['epoch']:.2f} ---\n{s['text']}\n\n" for s in samples)


def evaluate(model: CharLM, ids: npt.NDArray[np.integer], batch_size: int = 50, seq_length: int = 50) -> float:
    """The mean cross-entropy of a text under the model, in nats per character; divide by log 2 for bits.

    The text is read in up to `batch_size` rows at a time, each from a zero state. As the first characters of a row are
    harder to foretell than the others, a row has at least 5,000 of them: short texts are read in fewer rows. Every
    character of a row counts.

    Raises:
        ValueError: the text has fewer than 2 characters.
    """
    rows = max(1, min(batch_size, ids.size // _EVALUATION_ROW))
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    state: State | None = None
    with pydl.no_grad():
        for inputs, targets in ChunkStream(ids, rows, seq_length, drop_last=False):
            loss, state = model.loss(pydl.asarray(inputs), pydl.asarray(targets), state)
            total += loss.item() * inputs.size
            count += inputs.size
    model.train(was_training)
    return total / count


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _detached(state: State) -> State:
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()  # type: ignore[return-value]


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
