"""Dates as people write them -> ISO dates: a sequence-to-sequence network over characters, with attention.

"Sunday, the 3rd of May 1998", "03.05.98" and nine more ways become "1998-05-03". The days from 1950 to 2049 are split:
nine of ten are trained on, each written in some ways, and the network is asked for days that it has never seen.

    python -m pydl.examples.dates [--epochs 4] [--attention dot|additive] [--out FOLDER]
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

import pydl
from pydl.examples._shared import check_pictures, goal, options, run, say_where, table, train
from pydl.models import Seq2Seq
from pydl.text import WordVocabulary

FIRST, DAYS = datetime.date(1950, 1, 1), 36525
MONTHS: tuple[str, ...] = ("January", "February", "March", "April", "May", "June")
MONTHS += ("July", "August", "September", "October", "November", "December")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
Pairs = tuple[list[str], list[str]]


def written(day: datetime.date, way: int) -> str:
    """A day as people write it, in one of eleven ways; of numbers alone the day comes first, or the year."""
    d, m, y = day.day, day.month, day.year
    month, weekday = MONTHS[m - 1], WEEKDAYS[day.weekday()]
    ordinal = f"{d}{'th' if 11 <= d <= 13 else {1: 'st', 2: 'nd', 3: 'rd'}.get(d % 10, 'th')}"
    return (
        f"{d} {month} {y}",
        f"{month} {d}, {y}",
        f"{weekday}, the {ordinal} of {month} {y}",
        f"{weekday[:3]} {d} {month[:3]} {y % 100:02}",
        f"{month[:3]} {ordinal}, {y}",
        f"{d:02}.{m:02}.{y}",
        f"{d}.{m}.{y % 100:02}",
        f"{d:02}/{m:02}/{y % 100:02}",
        f"{y}/{m}/{d}",
        f"{d:02}-{month[:3].upper()}-{y}",
        f"the {ordinal} of {month.lower()}, {y}",
    )[way]


WAYS = 11


def pairs(days: npt.NDArray[np.int64], count: int, random: np.random.Generator) -> Pairs:
    """So many written dates and their ISO form, of days drawn from some, each in a way drawn at random."""
    drawn = [FIRST + datetime.timedelta(int(day)) for day in random.choice(days, count)]
    return [written(day, int(random.integers(WAYS))) for day in drawn], [day.isoformat() for day in drawn]


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; the share of held-out dates that are exactly right."""
    chosen = options(__doc__, 4, arguments, data=None, count=20000, hidden=128, attention=("dot", "additive"))
    check_pictures(chosen)
    random = np.random.default_rng(chosen.seed)

    days = random.permutation(DAYS)
    held_out, known = days[: DAYS // 10], days[DAYS // 10 :]
    x, y = pairs(known, chosen.count, random)
    test_x, test_y = pairs(held_out, 2000, random)

    model = Seq2Seq(
        WordVocabulary.from_texts(x, level="character"),
        WordVocabulary.from_texts(y, level="character"),
        attention=chosen.attention,
        embedding_size=32,
        hidden_size=chosen.hidden,
    )
    train(model, x, y, 64, 5e-3, chosen)

    found = {name: model.predict(test_x, beam=beam, max_length=12) for name, beam in (("greedy", 1), ("beam of 4", 4))}
    exact = {name: float(np.mean([a == b for a, b in zip(said, test_y)])) for name, said in found.items()}
    samples = zip(test_x[:12], found["greedy"], test_y)
    print(table([{"written": a, "found": b, "right": "yes" if b == c else f"no: {c}"} for a, b, c in samples]))
    wrong = [(a, b, c) for a, b, c in zip(test_x, found["greedy"], test_y) if b != c]
    for a, b, c in wrong[:5]:
        print(f"wrong: {a!r} -> {b}, expected {c}")
    for name, share in exact.items():
        goal(f"exact on {len(test_x):,} dates of days never seen, {name}", share, 0.99)
    if chosen.out is not None:
        day = datetime.date(1998, 5, 3)
        sources = [written(day, way) for way in (1, 2, 7, 9)]
        answers, looks = model.predict(sources, max_length=12, return_attention=True)
        read = [source.replace(" ", "␣") for source in sources]
        title = "Where it looked as it wrote each character"
        pydl.plots.attention(looks, read, answers, chosen.out / "dates-attention.png", title)
    say_where(chosen, "dates-attention.png")
    return exact


if __name__ == "__main__":
    run(main)
