"""The registry of searches, by name. A new search is one file and one entry here."""

from __future__ import annotations

from hmamba.index.base import Searcher
from hmamba.index.flat import FlatSearcher
from hmamba.index.ivf import IvfSearcher
from hmamba.index.matmul import Float64Searcher, MatmulSearcher

_CLASSES: tuple[type[Searcher], ...] = (FlatSearcher, MatmulSearcher, IvfSearcher, Float64Searcher)
SEARCHERS = {searcher.name: searcher for searcher in _CLASSES}
