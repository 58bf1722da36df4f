"""Every part runs on the CPU at small sizes, and notices what it is there to notice."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from bench.gpu import data, fused, machine, night, precision, repeat, scans, search, speed
from bench.gpu.context import Context
from bench.gpu.record import Record
from hmamba.model import lorentz
from hmamba.model.scan import chunked_scan


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    data.save(data.synthetic(40, 30, 60, days=30), folder / data.HISTORIES)
    return folder


@pytest.fixture
def context(folder, tmp_path):
    return Context(torch.device("cpu"), True, folder, Record(tmp_path / "part.json", "part"))


def findings(context):
    """Entries by name, as they lie on disk; no check may have failed."""
    entries = json.loads(context.record.path.read_text())
    assert [entry for entry in entries if entry["kind"] == "check" and not entry["passed"]] == []
    return {entry["what"]: entry for entry in entries}


def test_the_machine_is_described(context):
    machine.machine(context)
    found = findings(context)
    assert found["card"]["figures"]["card"] == "CPU"
    assert found["software"]["figures"]["torch"] == torch.__version__
    assert found["software"]["figures"]["mamba-ssm"] == "absent"


def test_the_chunked_scan_passes(context):
    scans.chunked(context)
    assert len(findings(context)) == 2 * len(scans.KINDS)


def without_boundaries(*inputs, segment_BT=None, **options):
    return chunked_scan(*inputs, **options)


def without_the_state(*inputs, state_BHPN=None, **options):
    y, state = chunked_scan(*inputs, state_BHPN=torch.zeros_like(state_BHPN), **options)
    return y + 0 * state_BHPN.sum(), state


def without_numbers(*inputs, **options):
    y, state = chunked_scan(*inputs, **options)
    return y * torch.nan, state


@pytest.mark.parametrize(
    ("scan", "kind"),
    [
        (without_boundaries, scans.Kind("packed", packed=True)),
        (without_the_state, scans.Kind("initial state", with_state=True)),
        (without_numbers, scans.Kind("one sequence a row")),
    ],
)
@pytest.mark.parametrize("precision_name", list(scans.TOLERANCE))
def test_a_wrong_scan_fails(context, scan, kind, precision_name):
    scans.compare(context, scan, "wrong", scans.Oracle(scans.TINY, (17, 40)), precision_name, [kind])
    (entry,) = context.record.entries
    assert not entry["passed"]
    assert not entry["figures"]["largest_relative_error"] < 0.1


def test_a_lost_gradient_fails(context):
    def scan(x, dt, *rest, **options):
        return chunked_scan(x, dt + 0 * dt.sum() - (dt - dt.detach()) * 0.5, *rest, **options)

    scans.compare(context, scan, "wrong", scans.Oracle(scans.TINY, (17,)), "bfloat16", scans.KINDS[3:])
    (entry,) = context.record.entries
    assert (entry["passed"], entry["figures"]["of"]) == (False, "ddt")


def test_the_fused_kernels_say_why_they_cannot_run(context):
    fused.fused(context)
    fused.tuned(context)
    entries = context.record.entries
    assert [entry["kind"] for entry in entries] == ["skip", "skip"]
    assert "need CUDA" in entries[0]["why"]


@pytest.mark.parametrize(("scan", "passes"), [(chunked_scan, True), (without_boundaries, False)])
def test_the_model_with_other_kernels_is_held_against_the_chunked_scan(context, monkeypatch, scan, passes):
    """Another scan stands where the fused kernels would be: the right one, and one that lets users see one another."""
    monkeypatch.setattr(fused, "why_not", lambda _: None)
    monkeypatch.setattr(fused.kernels, "choose", lambda kernels, _: chunked_scan if kernels == "torch" else scan)
    fused.tuned(context)
    told = {entry["what"]: entry["passed"] for entry in context.record.entries}
    assert len(told) == 4
    assert all(told.values()) == passes
    assert told["model with fused kernels, hidden states"] == passes


def test_a_night_is_trained_judged_and_scored(context):
    night.night(context)
    found = findings(context)
    assert found["candidates of all users: 20 each, no score rises, none is not a number"]["figures"]["rows"] == 40 * 20
    assert found["the same ranking as on the CPU"]["figures"]["overlap@20"] == 1
    judged = found["NDCG@10 on the held-out day is above popularity's"]["figures"]
    assert {"fine_tuned", "champion", "most_bought", "popularity"} < set(judged)


def test_another_ranking_than_the_cpus_fails(context, monkeypatch):
    real = night.rank_all
    calls = 0

    def reversed_second_time(*arguments, **named):
        nonlocal calls
        calls += 1
        items, scores = real(*arguments, **named)
        return (items, scores) if calls % 2 else (items[:, ::-1] + 1, scores)

    champion = context.shop.champion()
    ready = context.shop.ready(context.shop.histories, "wrong", champion)
    monkeypatch.setattr(night, "rank_all", reversed_second_time)
    night._compare_with_cpu(context, champion, ready.plan.evaluation_set)
    assert not context.record.entries[0]["passed"]


def test_search_agrees_with_float64_and_with_faiss(context):
    search.search(context)
    found = findings(context)
    assert found["FAISS on the CPU against the exact product"]["figures"]["recall@20"] == 1
    assert found["candidates by index and repeat consumption, dense ranking"]["figures"]["overlap@20"] == 1


def test_overlap_counts_what_was_found():
    right = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert search.overlap(right[:, ::-1], right) == 1
    assert search.overlap(np.array([[1, 2, 9, 9], [5, 6, 7, 8]]), right) == 0.75


def test_bfloat16_is_compared_and_geometry_stays_float32(context):
    precision.precision(context)
    found = findings(context)
    assert found["geometry stays float32 under autocast"]["figures"]["types"] == "torch.float32"
    assert found["loss of the first batch"]["figures"]["relative_difference"] > 0  # bfloat16 really ran
    assert found["mean loss of all steps"]["figures"]["steps"] == 2


def test_geometry_in_another_type_is_seen():
    with precision.geometry_types() as seen:
        lorentz.exp0(torch.ones(2, 3, dtype=torch.bfloat16), K=torch.tensor(64.0))
    assert torch.bfloat16 in seen
    lorentz.exp0(torch.ones(2, 3, dtype=torch.float64), K=64.0)
    assert torch.float64 not in seen  # the watch has ended


def test_the_same_seed_is_compared_bit_for_bit(context):
    repeat.repeat(context)
    found = findings(context)
    assert found["two trainings of the same seed"]["figures"]["equal_bit_for_bit"] == "yes"
    assert not torch.are_deterministic_algorithms_enabled()


def test_speed_is_measured_against_the_ceilings(context):
    speed.speed(context)
    found = findings(context)
    for what in (
        "ceilings",
        "training, 256 events a step",
        "encoding",
        "scoring: encoding, search, repeat consumption",
    ):
        assert all(value > 0 or name == "peak_GB" for name, value in found[what]["figures"].items()), what
    scan = found["chunked scan, chunk 64, forward"]["figures"]
    ceiling = found["ceilings"]["figures"]["bf16_TFLOP_a_second"]
    assert scan["share_of_the_bf16_ceiling"] == pytest.approx(scan["TFLOP_a_second"] / ceiling)
    assert found["fused scan"]["kind"] == "skip"


def test_speed_of_the_fused_kernels_is_measured_where_they_run(context, monkeypatch):
    """The chunked scan stands where the fused kernels would be."""
    monkeypatch.setattr(speed, "why_not", lambda _: None)
    monkeypatch.setattr(speed, "fused_scan", chunked_scan)
    monkeypatch.setattr(fused.kernels, "choose", lambda *_: chunked_scan)
    speed.speed(context)
    found = findings(context)
    for what in ("fused scan, chunk 64, forward and backward", "training with fused kernels"):
        assert found[what]["kind"] == "measure"
    assert found["encoding with fused kernels"]["figures"]["users_a_second"] > 0
