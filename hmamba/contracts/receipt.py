"""The receipt of an erasure: what was erased of whom, without the ids."""

from __future__ import annotations

from typing import ClassVar

from hmamba.contracts.document import Document, Moment, Part


class ErasedUser(Part):
    """One user.

    Attributes:
        user_hash: SHA-256 of the warehouse's salt and the id.
        forgotten_at: when the warehouse erased the user first, UTC without offset.
        events, quarantined: number of rows that the warehouse erased.
    """

    user_hash: str
    forgotten_at: str
    events: int
    quarantined: int


class Receipt(Document):
    """``receipts/forget-NAME.json``; the name follows from the users' hashes.

    Attributes:
        begun_at: when the erasure began.
        ended_at: when it was complete; None if it was stopped: run the same command again.
        users: the users.
        rewritten: files and folders that were written again without them, relative to the root.
        deleted: files and folders that were deleted, because they are derived and named them.
        landing: source files that still hold rows of them.
        unreadable: source files that could not be searched, each with the reason.
    """

    CURE: ClassVar[str] = "Delete it, and run hmamba forget with the same users again."

    begun_at: Moment
    ended_at: Moment | None = None
    users: tuple[ErasedUser, ...]
    rewritten: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    landing: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
