"""Films for three users, from synthetic ratings. Run: python docs/example.py.

Fits a model on a pandas frame, saves it, reads it again, recommends, and finds similar films.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from hmamba import Recommender
from hmamba.examples import write_example

SETTINGS = {
    "source": {
        "columns": {"user_id": "userId", "item_id": "movieId", "event_time": "timestamp", "weight": "rating"},
        "time_format": "epoch_s",
    },
    "catalogue": {"item_id": "movieId", "title": "title", "category_path": ["genre"]},
    "train": {"epochs": 5},
}


def main() -> None:
    """Print ten films for each of three users, and the films nearest to the first one's best."""
    with tempfile.TemporaryDirectory() as folder:
        ratings, films = (pd.read_csv(path) for path in write_example("films", Path(folder)))
        Recommender(SETTINGS).fit(ratings, films).save(Path(folder) / "model")
        recommender = Recommender.load(Path(folder) / "model")
        titles = films.set_index("movieId")["title"]
        best = recommender.recommend(recommender.users[:3], k=10)
        similar = recommender.similar_items(best["item_id"][:1], k=5)
    for found in (best, similar):
        print(found.assign(title=found["item_id"].map(titles)).to_string(index=False))


if __name__ == "__main__":
    main()
