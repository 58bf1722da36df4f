"""Kept runs: found again by what they depend on, made again when asked, one measurement at a time."""

from __future__ import annotations

import pytest

from bench import store as module
from bench.store import Store, sources
from hmamba.errors import HMambaError

RUN = {"system": "x", "settings": {"a": 1}}


def test_a_kept_run_is_found_by_its_identity(tmp_path):
    store = Store(tmp_path)
    assert store.find(RUN, to_run=True) is None
    checkpoint = store.under_way(RUN) / "state.json"
    checkpoint.write_text("{}")
    assert Store(tmp_path).under_way(RUN) == checkpoint.parent
    store.keep(RUN, {"value": 7})
    assert Store(tmp_path).find({"settings": {"a": 1}, "system": "x"}, to_run=True) == {"value": 7, "identity": RUN}
    assert store.find({**RUN, "settings": {"a": 2}}, to_run=True) is None
    assert not checkpoint.exists()


def test_again_makes_a_run_once_more_and_only_once(tmp_path):
    Store(tmp_path).keep(RUN, {"value": 7})
    store = Store(tmp_path, again=True)
    assert store.find(RUN, to_run=False) is not None
    assert store.find(RUN, to_run=True) is None
    store.keep(RUN, {"value": 8})
    assert (store.find(RUN, to_run=True) or {})["value"] == 8


def test_two_measurements_do_not_share_a_folder(tmp_path):
    with Store(tmp_path).alone():
        with pytest.raises(HMambaError, match="in use by another measurement"), Store(tmp_path).alone():
            pass
        with Store(tmp_path / "other").alone():
            pass
    with Store(tmp_path).alone():
        pass


def test_sources_change_with_what_code_does_and_not_with_its_words(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROOT", tmp_path)
    file = tmp_path / "a.py"

    def now(text):
        file.write_text(text)
        return sources("*.py", "*.txt")

    first = now('"""Says."""\ndef f():\n    """Doc."""\n    return 1\n')
    assert now("def f():\n    # why\n    return (1)\n") == first
    assert now("def f():\n    return 2\n") != first
    (tmp_path / "pins.txt").write_text("a==1")
    with_pins = now("def f():\n    return 1\n")
    assert with_pins != first
    (tmp_path / "pins.txt").write_text("a==2")
    assert now("def f():\n    return 1\n") != with_pins
