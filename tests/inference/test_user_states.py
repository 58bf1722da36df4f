"""Carried states: resuming from them equals encoding from scratch, and otherwise they are not used."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from hmamba.inference import encode
from hmamba.inference import user_states as states
from hmamba.inference.encode import encode_users
from hmamba.inference.user_states import CarriedStates, StateFiles, write_states
from hmamba.storage.local import atomic_file
from tests.histories import START, histories_of, random_histories
from tests.stored import ITEMS, stored_model

KINDS = [{"variant": variant, "layers": layers} for variant in ("full", "half", "euclidean") for layers in (1, 2)] + [
    {"d_conv": 1},
    {"norm": "post"},
]
CLOSE = {"atol": 2e-5, "rtol": 2e-5}
"""Tolerance for float32 sums in a different order; hidden states are about 1."""
DAY = 86_400_000_000


@pytest.fixture
def files(tmp_path):
    return StateFiles(tmp_path / "part.parquet", tmp_path / "users.parquet")


def keep(files, model, histories, version="v1", blocks=3):
    """Encode blocks of users and write their states; return the hidden states."""
    with write_states(files, model, version) as writer:
        parts = np.array_split(np.arange(len(histories)), blocks)
        return torch.cat([writer.encode(model, histories.select(part)) for part in parts])


def resume(files, model, histories, version="v1"):
    """Hidden states, and the numbers of users encoded from their states and from their whole histories."""
    with CarriedStates.opened(files, model, version) as carried:
        hidden = carried.encode(model, histories)
        return hidden, carried.advanced, carried.reencoded


@pytest.mark.parametrize("held", [1, 7, 1_000])
def test_user_ids_are_in_the_order_of_the_states_for_any_group_size(held, files, monkeypatch):
    monkeypatch.setattr(states, "_NAMES", held)
    model, histories = stored_model().model, random_histories(users=40, items=ITEMS)
    keep(files, model, histories)
    names = pq.read_table(files.users)["user_id"]
    assert names.equals(pq.read_table(files.part)["user_id"])
    assert sorted(names.to_pylist()) == sorted(histories.users.to_pylist())
    assert (pq.read_metadata(files.users).num_row_groups == 1) == (held == 1_000)


def test_an_interrupted_write_leaves_no_states(files, monkeypatch):
    monkeypatch.setattr(states, "_NAMES", 1)
    model, histories = stored_model().model, random_histories(users=40, items=ITEMS)

    def stop(*_):
        raise RuntimeError

    monkeypatch.setattr(states.StateWriter, "write_names", stop)
    with pytest.raises(RuntimeError), ExitStack() as stack:  # noqa: PT012
        users, part = (stack.enter_context(atomic_file(path)) for path in (files.users, files.part))
        with write_states(StateFiles(part, users), model, "v1") as writer:
            writer.encode(model, histories)
    assert list(files.part.parent.iterdir()) == []


def until(histories, days):
    return histories.between(None, START + days * DAY)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_resuming_equals_encoding_from_scratch(kind, files):
    model = stored_model(**kind).model
    histories = random_histories(users=60, items=ITEMS, baskets=False)
    before = until(histories, 30)
    known = before.select(np.flatnonzero(before.lengths))
    assert torch.equal(keep(files, model, known, blocks=1), encode_users(model, known))
    keep(files, model, known)
    touched = np.flatnonzero(histories.lengths > before.lengths)
    now = histories.select(touched)
    hidden, advanced, reencoded = resume(files, model, now)
    torch.testing.assert_close(hidden, encode_users(model, now), **CLOSE)
    newcomers = int((before.lengths[touched] == 0).sum())
    assert newcomers > 0
    assert (advanced, reencoded) == (len(touched) - newcomers, newcomers)


def test_a_wrong_state_changes_the_result(files):
    """States of the same users with other histories change the result, so users are not silently reencoded."""
    model = stored_model().model
    histories = random_histories(users=20, items=ITEMS, baskets=False)
    before = until(histories, 30)
    before = before.select(np.flatnonzero((before.lengths > 0) & (histories.lengths > before.lengths)))
    keep(files, model, replace(before, items=1 + before.items % ITEMS))
    users = set(before.users.to_pylist())
    now = histories.select(np.flatnonzero([user in users for user in histories.users.to_pylist()]))
    hidden, advanced, _ = resume(files, model, now)
    assert advanced == len(now)
    assert not torch.allclose(hidden, encode_users(model, now), **CLOSE)


def test_late_events_and_events_at_the_newest_time_are_reencoded(files):
    model = stored_model().model
    held = [(1.0, 3), (2.0, 5), (3.0, 7)]
    keep(files, model, histories_of(held, held, held, held))
    now = histories_of([*held, (4.0, 9)], [*held, (1.5, 9)], [*held, (3.0, 2)], [*held, (1.5, 9), (4.0, 9)])
    hidden, advanced, reencoded = resume(files, model, now)
    assert (advanced, reencoded) == (1, 3)
    torch.testing.assert_close(hidden, encode_users(model, now), **CLOSE)


@pytest.mark.parametrize("changed", ["version", "shape"])
def test_states_of_another_model_are_never_used(changed, files, caplog):
    keep(files, stored_model().model, random_histories(items=ITEMS))
    model = stored_model(d_state=2 if changed == "shape" else 4).model
    histories = random_histories(items=ITEMS, events=30)
    hidden, advanced, reencoded = resume(files, model, histories, "v1" if changed == "shape" else "v2")
    assert (advanced, reencoded) == (0, len(histories))
    assert "is of model v1" in caplog.text
    assert torch.equal(hidden, encode_users(model, histories))


def test_long_histories_and_many_new_events(files, monkeypatch):
    monkeypatch.setattr(encode, "LONGEST", 7)
    monkeypatch.setattr("hmamba.inference.user_states.LONGEST", 7)
    model = stored_model(layers=2).model
    histories = random_histories(users=40, items=ITEMS, events=40, baskets=False)
    before = until(histories, 20)
    keep(files, model, before.select(np.flatnonzero(before.lengths)))
    hidden, advanced, reencoded = resume(files, model, histories)
    assert advanced > 0
    assert reencoded > 0
    torch.testing.assert_close(hidden, encode_users(model, histories), **CLOSE)


def test_without_states_all_users_are_reencoded(files):
    model = stored_model().model
    histories = random_histories(items=ITEMS)
    hidden, advanced, reencoded = resume(files, model, histories)
    assert (advanced, reencoded) == (0, len(histories))
    assert torch.equal(hidden, encode_users(model, histories))


@pytest.mark.parametrize("others", ["fewer", "as many"])
def test_files_of_different_writes_give_no_wrong_state(others, files, tmp_path):
    model = stored_model().model
    histories = random_histories(users=30, items=ITEMS, baskets=False)
    before = until(histories, 35)
    keep(files, model, before.select(np.flatnonzero(before.lengths)))
    old_names = shutil.copyfile(files.users, tmp_path / "old")
    some = np.flatnonzero(before.lengths)
    some = some[:-4] if others == "fewer" else some[::-1].copy()
    keep(files, model, before.select(some))
    shutil.copyfile(old_names, files.users)
    hidden, _, reencoded = resume(files, model, histories)
    assert reencoded > 0
    torch.testing.assert_close(hidden, encode_users(model, histories), **CLOSE)


@pytest.mark.parametrize("damaged", ["states", "users"])
@pytest.mark.parametrize("how", ["cut short", "emptied", "changed"])
def test_damaged_files_are_logged_and_all_users_are_reencoded(damaged, how, files, caplog):
    model = stored_model().model
    histories = random_histories(users=60, items=ITEMS, baskets=False)
    before = until(histories, 30)
    keep(files, model, before.select(np.flatnonzero(before.lengths)))
    touched = histories.select(np.flatnonzero((before.lengths > 0) & (histories.lengths > before.lengths)))
    path = files.part if damaged == "states" else files.users
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if how == "changed":
        content[40:middle] = bytes(byte ^ 1 for byte in content[40:middle])
    path.write_bytes(content[: {"cut short": middle, "emptied": 0, "changed": len(content)}[how]])
    hidden, advanced, reencoded = resume(files, model, touched)
    assert (advanced, reencoded) == (0, len(touched))
    assert f"{path}" in caplog.text
    assert "damaged" in caplog.text
    assert torch.equal(hidden, encode_users(model, touched))


def test_the_files_name_users_events_and_the_model_version(files):
    model = stored_model().model
    histories = random_histories(users=30, items=ITEMS)
    keep(files, model, histories)
    part = pq.ParquetFile(files.part)
    assert part.schema_arrow.metadata == {b"model_version": b"v1"}
    rows = {row["user_id"]: row for row in part.read(["user_id", "events"]).to_pylist()}
    assert {user: rows[user]["events"] for user in rows} == dict(
        zip(histories.users.to_pylist(), histories.lengths.tolist(), strict=True)
    )
    assert pq.read_table(files.users)["user_id"].to_pylist() == part.read(["user_id"])["user_id"].to_pylist()
