"""Progress lines of long loops."""

from __future__ import annotations

import logging
import time

import pytest

from hmamba.progress import Progress


@pytest.mark.parametrize(("seconds", "speed"), [(2.0, "2 a second"), (40.0, "6 a minute")])
def test_slow_progress_is_shown_by_the_minute(
    seconds: float, speed: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO), Progress("publish: check", 8, "shards") as progress:
        progress._every_seconds, now[0] = 0.0, seconds
        progress.update(4, "well")
    assert [record.message for record in caplog.records] == [f"publish: check: 4 of 8 shards, {speed}, well"]
