"""Small synthetic data sets for the tutorials: film ratings, and anonymous sessions of a shop.

Users prefer some genres and films have sequels, so there is something to learn. The same seed gives the same files.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hmamba.errors import InputError
from hmamba.storage.base import write_text
from hmamba.storage.local import LOCAL

_FIRST = datetime(2024, 1, 1, tzinfo=UTC)
_DAYS = 152
"""January to May 2024."""
_USERS, _SERIES, _PARTS = 300, 50, 4
_SESSIONS, _PRODUCTS = 2000, 120
_GENRES = ("Adventure", "Comedy", "Crime", "Drama", "Science Fiction")
_ADJECTIVES = ("Silent", "Golden", "Broken", "Hidden", "Last", "Crimson", "Distant", "Paper", "Winter", "Borrowed")
_NOUNS = {
    "Adventure": ("Island", "Compass", "Summit", "Caravan", "Lighthouse"),
    "Comedy": ("Wedding", "Neighbour", "Umbrella", "Circus", "Bakery"),
    "Crime": ("Witness", "Alibi", "Vault", "Informer", "Detective"),
    "Drama": ("Letter", "Orchard", "Sister", "Promise", "Harbour"),
    "Science Fiction": ("Orbit", "Signal", "Machine", "Colony", "Horizon"),
}
_DEPARTMENTS = {
    "Kitchen": ("pan", "kettle", "knife", "bowl"),
    "Garden": ("spade", "hose", "planter", "lantern"),
    "Office": ("lamp", "notebook", "chair", "organiser"),
    "Sports": ("mat", "bottle", "rope", "backpack"),
}
_COLOURS = ("black", "white", "red", "green", "blue", "grey", "oak", "copper")


def write_example(name: str, folder: Path, seed: int = 0) -> list[Path]:
    """Write the files of an example into a folder, replacing existing ones; returns their paths.

    Raises:
        InputError: there is no example with this name, or the folder is a file.
    """
    if name not in EXAMPLES:
        raise InputError(f"There is no example {name!r}. Choose one of {', '.join(EXAMPLES)}.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Give a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for file, text in EXAMPLES[name](np.random.default_rng(seed)):
        write_text(LOCAL, folder / file, text)
        paths.append(folder / file)
    return paths


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _films(random: np.random.Generator) -> Iterator[tuple[str, str]]:
    """``ratings.csv`` and ``films.csv``: 300 users, 200 films in series of four, ratings from 0.5 to 5."""
    titles = [f"The {adjective} {noun}" for adjective in _ADJECTIVES for genre in _GENRES for noun in _NOUNS[genre]]
    genre_of_title = [number // 5 % len(_GENRES) for number in range(len(titles))]
    chosen = random.permutation(len(titles))[:_SERIES]
    films = []
    for place, title in enumerate(chosen):
        year = 1985 + int(random.integers(30))
        for part in range(_PARTS):
            name = titles[title] + (f" {part + 1}" if part else "")
            year += int(random.integers(1, 4))
            films.append((place * _PARTS + part + 1, f"{name} ({year})", _GENRES[genre_of_title[title]]))
    genres = np.array([genre_of_title[title] for title in chosen])
    popularity = 1.0 / (2.0 + random.permutation(_SERIES))
    ratings = []
    for user in range(1, _USERS + 1):
        preference = random.dirichlet(np.full(len(_GENRES), 0.3))
        for moment, film in _watched(random, preference, genres, popularity):
            liking = (
                2.6 + 2.2 * float(preference[genres[film // _PARTS]]) / float(preference.max()) + random.normal(0, 0.6)
            )
            stars = min(5.0, max(0.5, round(2 * liking) / 2))
            ratings.append((user, film + 1, stars, moment))
    ratings.sort(key=lambda row: (row[3], row[0]))
    yield "ratings.csv", _csv(("userId", "movieId", "rating", "timestamp"), ratings)
    yield "films.csv", _csv(("movieId", "title", "genre"), films)


def _watched(
    random: np.random.Generator, preference: np.ndarray, genres: np.ndarray, popularity: np.ndarray
) -> Iterator[tuple[int, int]]:
    """(second since 1970, film) of one user in order of time; the next part of a series often follows."""
    begin = int(_FIRST.timestamp())
    evenings = np.sort(random.choice(_DAYS, size=int(random.integers(12, 40)), replace=False))
    following: list[int] = []
    seen: set[int] = set()
    for day in evenings:
        if following and random.random() < 0.35:
            film = following.pop()
        else:
            chances = popularity * preference[genres] + 1e-4
            film = int(random.choice(_SERIES, p=chances / chances.sum())) * _PARTS
        if film in seen:
            continue
        seen.add(film)
        if film % _PARTS < _PARTS - 1:
            following.append(film + 1)
        yield begin + int(day) * 86400 + int(random.integers(17 * 3600, 23 * 3600)), film


def _sessions(random: np.random.Generator) -> Iterator[tuple[str, str]]:
    """``events.jsonl`` and ``products.csv``: 2,000 anonymous sessions of a shop."""
    kinds = [(department, kind) for department, kinds in _DEPARTMENTS.items() for kind in kinds]
    products = []
    for number in range(_PRODUCTS):
        department, kind = kinds[number % len(kinds)]
        colour = _COLOURS[number // len(kinds) % len(_COLOURS)]
        products.append((f"P{number + 1:03d}", f"{kind.capitalize()}, {colour}", department, kind))
    popularity = 1.0 / (3.0 + random.permutation(_PRODUCTS))
    begin = int(_FIRST.timestamp())
    starts = np.sort(random.integers(0, _DAYS * 86400, _SESSIONS))
    events = []
    for number, start in enumerate(starts):
        session = f"s{number + 1:05d}"
        events += [
            {"session_id": session, "event": event, "item_id": products[product][0], "timestamp": moment}
            for moment, event, product in _visit(random, begin + int(start), len(kinds), popularity)
        ]
    events.sort(key=lambda event: (event["timestamp"], event["session_id"]))
    yield "events.jsonl", "".join(json.dumps(event) + "\n" for event in events)
    yield "products.csv", _csv(("item_id", "name", "department", "category"), products)


def _visit(
    random: np.random.Generator, start: int, kinds: int, popularity: np.ndarray
) -> Iterator[tuple[int, str, int]]:
    """(millisecond since 1970, type, product) of one session: views within a category, purchases some time later."""
    numbers = np.arange(len(popularity))
    kind = int(random.integers(kinds))
    moment = start * 1000
    cart: list[int] = []
    done: set[int] = set()
    for _ in range(int(random.integers(6, 15))):
        if random.random() < 0.15:
            kind = kind // 4 * 4 + int(random.integers(4))  # another category of the department
        chances = popularity * np.where(numbers % kinds == kind, 1.0, 0.02)
        product = int(random.choice(numbers, p=chances / chances.sum()))
        moment += int(random.integers(5_000, 90_000))
        yield moment, "view", product
        if cart and random.random() < 0.4:
            moment += int(random.integers(20_000, 120_000))
            yield moment, "purchase", cart.pop(int(random.integers(len(cart))))
        if product not in done and random.random() < 0.4:
            moment += int(random.integers(3_000, 30_000))
            yield moment, "cart", product
            cart.append(product)
            done.add(product)


EXAMPLES: dict[str, Callable[[np.random.Generator], Iterator[tuple[str, str]]]] = {
    "films": _films,
    "sessions": _sessions,
}
"""The examples by name."""
