"""The files of a snapshot, verified when they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hmamba.contracts.manifest import SnapshotManifest
from hmamba.errors import InputError
from hmamba.storage.run_layout import ITEMS, RunLayout, shard_name


@dataclass(frozen=True)
class Snapshot:
    """A run's snapshot as its manifest describes it. Files that the manifest does not name are not part of it.

    Attributes:
        run: the run.
        manifest: the manifest.
    """

    run: RunLayout
    manifest: SnapshotManifest

    @classmethod
    def open(cls, run: RunLayout) -> Snapshot:
        """Read the manifest of a run's snapshot; the other files are verified when they are first used.

        Raises:
            InputError: it is missing or damaged.
        """
        return cls(run, SnapshotManifest.read(run.manifest, run.storage))

    @property
    def digest(self) -> str:
        """Digest of the content."""
        return self.manifest.digest

    def shard(self, number: int) -> Path:
        """Local file of a shard.

        Raises:
            InputError: it is missing or damaged, or there is no such shard.
        """
        return self._verified(shard_name(number))

    @cached_property
    def shards(self) -> list[Path]:
        """Local files of all shards, in order.

        Raises:
            InputError: one is missing or damaged.
        """
        return [self.shard(number) for number in range(self.manifest.shards)]

    @cached_property
    def items(self) -> Path:
        """Local file of the items.

        Raises:
            InputError: it is missing or damaged.
        """
        return self._verified(ITEMS)

    def described_users(self, shard: int) -> Path | None:
        """Local file of the described users of a shard; None without a users file.

        Raises:
            InputError: it is missing or damaged.
        """
        name = f"users-{shard:04d}.parquet"
        return self._verified(name) if any(file.name == name for file in self.manifest.files) else None

    def _verified(self, name: str) -> Path:
        place = self.run.sequences / name
        file = next((file for file in self.manifest.files if file.name == name), None)
        if file is None:
            raise InputError(f"{self.run.manifest} does not name {name}. {SnapshotManifest.CURE}")
        return file.verified(self.run.storage.local_path(place), SnapshotManifest.CURE)
