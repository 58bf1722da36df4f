"""Score the users of a night with the model or baseline that serves, one shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hmamba.candidates.baseline import Baseline
from hmamba.candidates.because import Attribution
from hmamba.candidates.experiment import ExperimentScorer, points_of
from hmamba.candidates.fallback import Fallback
from hmamba.candidates.ruled import Ruled
from hmamba.candidates.score import ModelScorer, ScoredBlock, ShardCounts, write_candidates
from hmamba.candidates.served import item_points, served_by
from hmamba.columns import GROUP, ITEM_INDEX, REASON
from hmamba.contracts.manifest import Experiment
from hmamba.contracts.verdict import read_serving
from hmamba.evaluation.gate import is_baseline
from hmamba.index import index as item_index
from hmamba.index.base import FloatArray
from hmamba.index.index import ItemIndex
from hmamba.inference.encode import Encode, encode_users
from hmamba.models import files as model_files
from hmamba.models.files import StoredModel
from hmamba.rules.night import NightRules
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import Histories, IntArray
from hmamba.sequences.segments import Segments


@dataclass(frozen=True)
class NightScorer:
    """Scores users with what serves a night: a baseline, or a model and its index.

    Attributes:
        version: the model version or baseline that serves.
        served: as :func:`hmamba.candidates.served.served_by`.
        popularity: (size,) events of each item index.
        system: a baseline, or a model and its index.
        files: the snapshot, which describes users.
        rules: the rules of the night; None without any.
    """

    version: str
    served: str
    popularity: IntArray
    system: Baseline | tuple[StoredModel, ItemIndex]
    files: Snapshot
    rules: NightRules | None = None

    @classmethod
    def open(cls, files: Snapshot, device: torch.device, kernels: str = "auto") -> NightScorer:
        """Load the outputs of the gate and index steps of a snapshot's run.

        Raises:
            InputError: one of them has not run, or its output is damaged.
        """
        run, version, served = files.run, read_serving(files.run), served_by(files.run)
        rules = NightRules.open(files)
        if is_baseline(version):
            ids = model_files.vocabulary(files.items)
            popularity = model_files.item_events(files.items, len(ids))
            allowed = pq.read_table(item_points(run), columns=[ITEM_INDEX])[ITEM_INDEX].to_numpy()
            candidate_items = CandidateItems.only(allowed, len(ids))
            baseline = Baseline(version, candidate_items, ids, popularity)
            return cls(version, served, popularity, baseline, files, rules)
        stored = model_files.load_serving(run, version, device, kernels)
        folder = run.storage.local_path(run.index)
        searched = item_index.load(folder, stored.identity, stored.model.tangents.weight.device)
        popularity = model_files.item_events(files.items, len(stored.candidate_items.column))
        return cls(version, served, popularity, (stored, searched), files, rules)

    @property
    def stored(self) -> StoredModel | None:
        """The model; None where a baseline serves."""
        return None if isinstance(self.system, Baseline) else self.system[0]

    @property
    def item_ids(self) -> pa.Array:
        """(size,) item ids by index, null where an index has no item."""
        return self.system.item_ids if isinstance(self.system, Baseline) else self.system[0].item_ids

    def score(
        self,
        blocks: Iterable[Histories],
        *,
        k: int,
        exclude_seen: bool,
        candidates: Path,
        vectors: Path,
        encode: Encode = encode_users,
        because: bool = False,
        experiment: Experiment | None = None,
        shard: int,
    ) -> ShardCounts:
        """Write the candidates and points of a shard's users; see :func:`hmamba.candidates.score.write_candidates`.

        Args:
            blocks: the shard's users.
            k: items per user.
            exclude_seen: exclude items that the user has seen.
            candidates: file to write.
            vectors: file to write.
            encode: computes hidden states from histories; unused where a baseline serves.
            because: whether to write the reason of each row.
            experiment: who is in a control group, whose lists are those of its baseline; None without one.
            shard: the shard.
        """
        optional = [*(REASON if because else ()), *(GROUP if experiment is not None else ())]
        of_baseline, fallback = None if self.rules is None else Ruled(self.rules, k, shard), self.fallback(shard)
        baseline = partial(Baseline.block, k=k, exclude_seen=exclude_seen, because=because, ruled=of_baseline)
        points: Callable[[Histories], FloatArray] | None = None
        if isinstance(self.system, Baseline):
            score: Callable[[Histories], ScoredBlock] = partial(
                baseline, self.system, fallback=fallback if self.has_fallback else None
            )
        else:
            stored, index = self.system
            attribution = Attribution(stored, index, self.popularity) if because else None
            device = stored.model.tangents.weight.device
            ruled = None if self.rules is None else Ruled(self.rules, k, shard, index, device)
            score = ModelScorer(stored, index, self.popularity, k, exclude_seen, encode, attribution, ruled, fallback)
            points = partial(points_of, stored=stored, encode=encode)
        if experiment is not None:
            score = ExperimentScorer(score, partial(baseline, self.control(experiment)), points, experiment)
        return write_candidates(score, self.item_ids, blocks, candidates=candidates, vectors=vectors, optional=optional)

    @property
    def has_fallback(self) -> bool:
        """Whether users without usable history are ranked by something other than a baseline would."""
        return self.files.segments is not None or self.files.manifest.without_events

    def fallback(self, shard: int) -> Fallback:
        """Ranks the items of users of a shard without usable history."""
        system = self.system
        served = system.candidate_items if isinstance(system, Baseline) else system[1].served_items
        segments = None if self.files.segments is None else Segments.read(self.files.segments)
        users = None if segments is None else self.files.described_users(shard)
        return Fallback(served.counts(self.popularity), segments, users)

    def control(self, experiment: Experiment) -> Baseline:
        """The baseline of the control group, on the items of the model that serves."""
        if isinstance(self.system, Baseline):
            return self.system
        return Baseline(experiment.version, self.system[1].served_items, self.item_ids, self.popularity)
