"""The files of a snapshot, verified when they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hmamba.contracts.manifest import SnapshotManifest
from hmamba.errors import InputError
from hmamba.storage.run_layout import DESCRIBED_ITEMS, ITEMS, SEGMENTS, RunLayout, shard_name, users_name


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
        return self.verified(shard_name(number))

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
        return self.verified(ITEMS)

    @cached_property
    def described_items(self) -> Path:
        """Local file of the items, with the columns of the catalogue if one is set.

        Raises:
            InputError: it is missing or damaged.
        """
        return self.verified(DESCRIBED_ITEMS) if self.names(DESCRIBED_ITEMS) else self.items

    def described_users(self, shard: int) -> Path | None:
        """Local file of the described users of a shard; None without a users file.

        Raises:
            InputError: it is missing or damaged.
        """
        return self.verified(users_name(shard)) if self.names(users_name(shard)) else None

    @cached_property
    def segments(self) -> Path | None:
        """Local file of the events of items by segment; None without segments.

        Raises:
            InputError: it is missing or damaged.
        """
        return self.verified(SEGMENTS) if self.names(SEGMENTS) else None

    def users_without_events(self, shard: int) -> Path | None:
        """Local file of a shard's users who get candidates even without events; None if there are no such users.

        Raises:
            InputError: it is missing or damaged.
        """
        return self.described_users(shard) if self.manifest.without_events else None

    def names(self, name: str) -> bool:
        """Whether the manifest names a file."""
        return any(file.name == name for file in self.manifest.files)

    def verify_descriptions(self) -> None:
        """Verify all files other than the shards and the items.

        Raises:
            InputError: one is missing or damaged.
        """
        known = {ITEMS, *(shard_name(number) for number in range(self.manifest.shards))}
        for file in self.manifest.files:
            if file.name not in known:
                self.verified(file.name)

    def verified(self, name: str) -> Path:
        """Local file of this name.

        Raises:
            InputError: it is missing or damaged, or the manifest does not name it.
        """
        place = self.run.sequences / name
        file = next((file for file in self.manifest.files if file.name == name), None)
        if file is None:
            raise InputError(f"{self.run.manifest} does not name {name}. {SnapshotManifest.CURE}")
        return file.verified(self.run.storage.local_path(place), SnapshotManifest.CURE)
