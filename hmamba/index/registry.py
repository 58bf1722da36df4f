"""The registry of searches, by name. A new search is one file and one entry here."""

from __future__ import annotations

from hmamba.index.base import Searcher
from hmamba.index.flat import FlatSearcher
from hmamba.index.ivf import IvfSearcher
from hmamba.index.matmul import Float64Searcher, MatmulSearcher

SEARCHERS: dict[str, type[Searcher]] = {
    FlatSearcher.name: FlatSearcher,
    MatmulSearcher.name: MatmulSearcher,
    IvfSearcher.name: IvfSearcher,
    Float64Searcher.name: Float64Searcher,
}
