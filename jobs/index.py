"""Index: build an index of the serving model's item points whose ranking agrees with float64."""

from __future__ import annotations

import sys

from hmamba.candidates.baseline import write_eligible
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.steps import IndexMetrics
from hmamba.contracts.verdict import read_serving
from hmamba.evaluation.gate import is_baseline
from hmamba.index import index as item_index
from hmamba.index.choice import choose
from hmamba.inference.device import device_of
from hmamba.models import files as model_files
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.files import Snapshot
from hmamba.sources.ids import allowed_items
from hmamba.tables.of_items import ItemTables
from jobs.step import StepContext, run_step


def body(context: StepContext) -> IndexMetrics:
    """Build the index of the serving model, and measure its float32 recall on some of the night's queries.

    A baseline needs no index: only its candidate items are written.
    """
    run, config = context.run, context.config
    version = read_serving(run)
    files, allowed = Snapshot.open(run), allowed_items(context.layout, config)
    if is_baseline(version):
        ids = model_files.vocabulary(files.items)
        events = model_files.item_events(files.items, len(ids))
        (candidate_items,) = item_index.restrict(ids, allowed, CandidateItems.of(events, 1))
        with run.storage.write_file(run.item_points) as path:
            write_eligible(candidate_items, ids, path)
            points = HashedFile.of(path, run.item_points.name)
        return IndexMetrics(
            day=context.day,
            items=len(candidate_items),
            kind="none",
            device="cpu",
            model_version=version,
            points=points,
            tables=ItemTables(context.layout, config, files, candidate_items).write(),
            snapshot=files.manifest.files_digest,
        )
    device = device_of(config.train.device)
    stored = model_files.load_serving(run, version, device, config.model.kernels)
    model_files.check_vocabulary(f"model {version}", stored.item_ids, model_files.vocabulary(files.items))
    every_new = CandidateItems.only(stored.new_items, len(stored.candidate_items.column))
    with run.storage.write_file(run.item_points) as path:
        item_index.write_item_points(stored, stored.candidate_items.together(every_new), path)
        points = HashedFile.of(path, run.item_points.name)
    candidate_items, new_items = item_index.restrict(stored.item_ids, allowed, stored.candidate_items, every_new)
    settings = config.candidates
    chosen = choose(stored, candidate_items, files.shards, settings)
    found = chosen.float32_recall
    built = item_index.with_new(stored, chosen.index, new_items, settings.new_items)
    with run.storage.write_folder(run.index) as folder:
        size = item_index.save(built, folder)
    return IndexMetrics(
        day=context.day,
        items=len(candidate_items),
        new_items=len(new_items),
        dim=int(built.vectors.shape[1]),
        kind=built.kind,
        bytes=size,
        device=device.type,
        float32_recall=found.share,
        float32_recall_floor=settings.float32_recall,
        float32_recall_at=found.depth,
        float32_recall_users=found.users,
        queries_per_second=chosen.queries_per_second,
        recall=chosen.recall,
        looked_at=built.searcher.describe() or None,
        recall_floor=settings.recall,
        recall_at=min(settings.k, len(candidate_items)),
        model_version=stored.version,
        points=points,
        tables=ItemTables(context.layout, config, files, built.served_items, stored, built).write(),
        snapshot=files.manifest.files_digest,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("index", __doc__ or "", body, arguments)


if __name__ == "__main__":
    sys.exit(main())
