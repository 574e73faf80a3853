"""What the worked examples share: the images that they learn, their options, and how they report."""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

import pydl
from pydl.nn import functional as F
from pydl.text import read_text, standard_library

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pydl.models import SequenceModel

BATCH, DECAY = 128, 0.01  # of the networks that classify images
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


class Images(NamedTuple):
    """Training and test part: images (N, 1, H, W) of bytes, labels (N,) of int64."""

    x_train: npt.NDArray[np.uint8]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.uint8]
    y_test: npt.NDArray[np.int64]

    @property
    def classes(self) -> int:
        return int(self.y_train.max()) + 1

    @property
    def pixels(self) -> int:
        return int(self.x_train[0].size)


def images(folder: str | None, limit: int | None = None) -> Images:
    """The images of a folder of IDX files; without one, scikit-learn's 1,797 digits of 8 x 8 pixels, 80 % for training.

    Args:
        folder: with the four files of MNIST or one of its family, plain or gzipped; or None.
        limit: training images that are kept; default all.
    """
    if folder is None:
        digits = _digits()
        x = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        y = digits.target.astype(np.int64)
        order = np.random.default_rng(0).permutation(len(x))
        train, test = order[: len(x) * 4 // 5], order[len(x) * 4 // 5 :]
        data = Images(x[train][:, None], y[train], x[test][:, None], y[test])
    else:
        (x, y), (x_test, y_test) = pydl.data.mnist(folder)
        data = Images(x[:, None], y.astype(np.int64), x_test[:, None], y_test.astype(np.int64))
    return data._replace(x_train=data.x_train[:limit], y_train=data.y_train[:limit])


def enlarged(x: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Bytes (N, 1, H, W) -> (N, 1, side, side), with smooth transitions."""
    large = F.interpolate(pydl.asarray(x.astype(np.float32)), size=(side, side), mode="bilinear")
    return np.rint(large.cpu().numpy()).astype(np.uint8)


def _digits() -> Any:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit(
            "the default data need scikit-learn: pip install 'pydl[sklearn]'; or give --data, a folder of IDX files"
        ) from error
    return load_digits()


def options(
    text: str | None,
    epochs: int | None,
    arguments: Sequence[str] | None = None,
    *,
    data: str | None = "a folder of IDX files; default: scikit-learn's digits",
    **more: Any,
) -> argparse.Namespace:
    """The options that all examples have: --data, --epochs, --out, --seed, --threads, and ``more`` with defaults.

    Args:
        text: the example's docstring.
        epochs: by default; None where the docstring tells it.
        arguments: those of the command line; default ``sys.argv``.
        data: what --data is; None for examples that make their own data.
        more: name -> default, or a tuple of what may be chosen, the default first; True or False make a switch.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {_running()}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if data is not None:
        parser.add_argument("--data", metavar="PATH", help=data)
    parser.add_argument("--epochs", type=int, default=epochs, help=f"default {epochs or 'as above'}")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="where pictures go; default: none are drawn")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--threads", metavar="N", type=int, help="default: as many as the process may use")
    for name, default in more.items():
        if isinstance(default, bool):
            parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=default)
            continue
        if isinstance(default, tuple):
            parser.add_argument(f"--{name}", choices=default, default=default[0], help=f"default {default[0]}")
            continue
        kind = type(default) if default is not None else int
        parser.add_argument(
            f"--{name}", type=kind, default=default, help=None if default is None else f"default {default}"
        )
    chosen = parser.parse_args(arguments)
    if chosen.epochs is not None and chosen.epochs < 1:
        parser.error(f"got --epochs {chosen.epochs}, expected 1 or more")
    if chosen.threads is not None and chosen.threads < 1:
        parser.error(f"got --threads {chosen.threads}, expected 1 or more")
    if chosen.threads is not None:
        pydl.set_num_threads(chosen.threads)
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
    pydl.manual_seed(chosen.seed)
    return chosen


def _running() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return getattr(spec, "name", None) or "pydl.examples.NAME"


def run(main: Callable[[], Any]) -> NoReturn:
    """Call an example for the command line: what it was given and cannot use is one line, and the exit status 2."""
    from pydl.cli import CommandError, answered, input_errors

    def call() -> int:
        try:
            with input_errors():
                main()
        except ImportError as error:
            raise CommandError(str(error)) from None
        except SystemExit as error:
            if not isinstance(error.code, str):
                raise
            raise CommandError(error.code) from None
        return 0

    raise SystemExit(answered(_running(), call))


def run_on_text(main: Callable[[str], Any], characters: int) -> NoReturn:
    """The same for an example of one argument, the text of a file; without one it is Python's standard library."""
    parser = argparse.ArgumentParser(prog=f"python -m {_running()}", description="trains a model of characters")
    parser.add_argument("file", metavar="FILE", nargs="?", help="a text; default: Python's standard library")
    file = parser.parse_args().file
    run(lambda: main(standard_library(characters).text if file is None else read_text(file)))


def train(model: SequenceModel, x: Any, y: Any, batch: int, lr: float, chosen: argparse.Namespace, **more: Any) -> None:
    """Fit a model of sequences with a one-cycle schedule that peaks at lr, and print its size and how long it took."""
    steps = chosen.epochs * -(-len(x) // batch)
    begin = time.perf_counter()
    model.fit(
        x, y, batch, chosen.epochs, seed=chosen.seed,
        scheduler=lambda optimizer: pydl.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps), **more,
    )  # fmt: skip
    size = sum(parameter.size for parameter in model.parameters())
    print(f"{size:,} parameters, trained in {time.perf_counter() - begin:.0f} s")


def classifier(model: pydl.nn.Module, data: Images, rate: float, epochs: int, seed: int) -> pydl.Trainer:
    """AdamW, whose learning rate rises to ``rate`` and falls once in all these epochs."""
    steps = epochs * -(-len(data.x_train) // BATCH)
    return pydl.Trainer(
        model,
        "cross_entropy",
        pydl.optim.AdamW(model, lr=rate, weight_decay=DECAY),
        ["accuracy"],
        scheduler=lambda optimizer: pydl.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps),
        seed=seed,
    )


def learn(
    model: pydl.nn.Module, data: Images, rate: float, chosen: argparse.Namespace, name: str, title: str
) -> dict[str, float]:
    """Train a :func:`classifier`, watched on the test part, and :func:`report` it."""
    trainer = classifier(model, data, rate, chosen.epochs, chosen.seed)
    begin = time.perf_counter()
    test = (data.x_test, data.y_test)
    history = trainer.fit(data.x_train, data.y_train, BATCH, chosen.epochs, validation_data=test)
    return report(trainer, data, history, time.perf_counter() - begin, chosen, name, title)


def check_pictures(chosen: argparse.Namespace) -> None:
    """That matplotlib is missing where pictures are asked for is better told before the work."""
    if chosen.out is not None and not find_spec("matplotlib"):
        raise SystemExit("--out: the pictures need matplotlib: pip install 'pydl[plot]'")


def goal(what: str, share: float, wanted: float) -> None:
    """Print a figure beside what it should be."""
    print(f"{what}: {share:.2%}, the goal is {wanted:.0%}{'' if share >= wanted else ': missed'}")


def announced(names: Collection[str]) -> Iterator[str]:
    """Each name, printed when its turn comes: what takes its time should not be silent."""
    for i, name in enumerate(names, 1):
        print(f"{i} of {len(names)}: {name}", flush=True)
        yield name


def say_where(chosen: argparse.Namespace, *names: str) -> None:
    """Print where the pictures lie, or how to get them. A name without an ending is one of :func:`picture`."""
    names = tuple(name if "." in name else picture(Path(), name).name for name in names)
    where = "none was asked for, --out FOLDER draws" if chosen.out is None else "written to"
    print(f"pictures: {where} {', '.join(names if chosen.out is None else (str(chosen.out / n) for n in names))}")


def picture(out: Path, name: str) -> Path:
    """A file for a picture: PNG where matplotlib is installed, otherwise SVG, which needs nothing."""
    return out / f"{name}.{'png' if find_spec('matplotlib') else 'svg'}"


def report(
    trainer: pydl.Trainer,
    data: Images,
    history: pydl.History,
    seconds: float,
    chosen: argparse.Namespace,
    name: str,
    title: str,
) -> dict[str, float]:
    """Print loss and accuracy of both parts, draw the history where asked to; the test part's numbers."""
    parts = {"training": (data.x_train, data.y_train), "test": (data.x_test, data.y_test)}
    results: dict[str, dict[str, float]] = {key: trainer.evaluate(*part) for key, part in parts.items()}
    print(table([{"part": part, "images": len(parts[part][1]), **row} for part, row in results.items()]))
    size = sum(parameter.size for parameter in trainer.model.parameters())
    print(f"{size:,} parameters, {seconds / chosen.epochs:.1f} s an epoch")
    if chosen.out is not None:
        history.plot(picture(chosen.out, name), title=f"{title}; validation is the test part")
    say_where(chosen, name)
    return results["test"]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same keys as aligned columns; texts to the left, numbers to the right."""
    columns = {key: [_cell(row.get(key, "")) for row in rows] for key in rows[0]}
    widths = {key: max(len(key), *map(len, cells)) for key, cells in columns.items()}
    left = {key for key in columns if any(isinstance(row.get(key), str) for row in rows)}

    def line(cells: Mapping[str, str]) -> str:
        aligned = (cells[k].ljust(widths[k]) if k in left else cells[k].rjust(widths[k]) for k in columns)
        return "  ".join(aligned).rstrip()

    ruler = "  ".join("-" * widths[key] for key in columns)
    body = (line({key: cells[i] for key, cells in columns.items()}) for i in range(len(rows)))
    return "\n".join([line({key: key for key in columns}), ruler, *body])


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
