"""The measurements of speed: they check before they time, and say what they saw."""

from __future__ import annotations

import time

import pytest
import torch

from bench.speed import __main__ as speed
from bench.speed import candidate_items, encode, epoch, scan, search
from bench.speed.rounds import Figure, check, hot, in_turns
from hmamba.errors import HMambaError
from hmamba.model.scan import reference_scan
from tests.bench.files import order_data


def test_rounds_are_taken_in_turns_after_one_that_does_not_count():
    calls: list[str] = []
    seconds, spread = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert set(seconds) == set(spread) == {"a", "b"}
    assert all(value >= 1 for value in spread.values())


def test_what_is_wrong_is_not_timed():
    with pytest.raises(HMambaError, match="not timed, because the result is wrong: they differ"):
        check(False, "they differ")


def test_the_ratio_is_the_peers_time_by_ours():
    figure = Figure("x", "mine", "theirs", (10, "users"), {"mine": 2.0, "theirs": 5.0}, {"mine": 1, "theirs": 1}, 2.0)
    assert figure.ratio == 2.5
    assert "| x | **2.50** | 2.00 | theirs | users a second: mine: 5 (rounds 1.00); theirs: 2 (rounds 1.00) |" in (
        speed.report([figure], [], "python -m bench.speed")
    )


def test_where_the_time_goes_is_told_of_missed_targets_alone(monkeypatch, capsys):
    def slow() -> None:
        time.sleep(0.05)

    def way() -> None:
        time.sleep(0.01)
        slow()

    hottest = hot(way)
    assert hottest[0][0] == "<built-in method time.sleep>"
    assert hottest[0][1] == pytest.approx(1, abs=0.05)

    def figure(name: str, target: float | None) -> Figure:
        return Figure(
            name, "mine", "theirs", (1, "users"), {"mine": 1, "theirs": 2}, {"mine": 1, "theirs": 1}, target, way
        )

    made = [figure("met", 2.0), figure("missed", 2.1), figure("without", None)]
    monkeypatch.setattr(speed, "PARTS", {"encode": lambda quick: iter(made)})
    assert speed.main(["--print-only", "--only", "encode"]) == 0
    told = capsys.readouterr().out.partition("## Where the time goes")[2]
    assert "**missed: mine**" in told
    assert "| `<built-in method time.sleep>` | 100% |" in told
    assert "met: mine" not in told
    assert "without: mine" not in told


def test_functions_of_one_name_are_added_up():
    slow = [lambda: time.sleep(0.02), lambda: sum(number for number in range(200_000))]
    fast = [lambda: sum(number for number in range(10))]
    (share,) = [share for name, share in hot(lambda: [way() for way in slow + fast]) if name.endswith("<genexpr>")]
    assert share > 0.05


def test_all_parts_run_that_can(monkeypatch, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(encode, "TARGETS", {5: None, 40: 3.0})
    monkeypatch.setattr(scan, "LENGTHS", (200,))
    monkeypatch.setattr(search, "SEEN", 50)
    monkeypatch.setattr(epoch, "PYTHON", tmp_path / "nowhere")
    monkeypatch.delenv("HMAMBA_DATA", raising=False)
    assert speed.main(["--quick", "--out", str(tmp_path)]) == 0
    (written,) = tmp_path.iterdir()
    assert written.read_text() == capsys.readouterr().out.removesuffix("\n")
    threads = len(list(scan.threads()))
    table = written.read_text().partition("## Where the time goes")[0]
    assert table.count("**") == 2 * (2 + 5 + 1 + 4 + 1 + 4 * threads + 1)
    assert "approximate search: skipped, because the folder of the data sets is not set" in caplog.text
    assert "epoch of complete-journey: skipped, because there is no .venv-peers (make bench-peers)." in caplog.text


def test_a_file_of_some_parts_is_named_after_them(monkeypatch, tmp_path):
    monkeypatch.setattr(encode, "TARGETS", {5: None})
    assert speed.main(["--quick", "--only", "encode", "--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"encode-{speed.today()}.md"]


def test_the_local_dimension_of_a_sheet_is_its_own():
    generator = torch.Generator().manual_seed(0)
    sheet = torch.rand(4_000, 3, generator=generator) @ torch.randn(3, 20, generator=generator)
    assert candidate_items.local_dimension(sheet) == pytest.approx(3, abs=0.4)


def test_siblings_are_spread_as_the_trained_items_are():
    """On average about the same mean, with the same covariance, and neither copies nor clusters of their own."""
    generator = torch.Generator().manual_seed(0)
    weights, bias = torch.randn(2_000, 6, generator=generator), torch.randn(2_000, generator=generator)
    weights[:, 0] *= 3
    grown, biases = candidate_items.grow(weights, bias, 20_000)
    assert grown.shape == (20_000, 6)
    torch.testing.assert_close(grown.mean(0), weights.mean(0), atol=0.1, rtol=0)
    torch.testing.assert_close(grown.std(0), weights.std(0), atol=0, rtol=0.2)
    assert biases.std() == pytest.approx(float(bias.std()), rel=0.6)
    assert len(grown.unique(dim=0)) == 20_000
    assert candidate_items.local_dimension(grown) == pytest.approx(candidate_items.local_dimension(weights), rel=0.25)


def test_a_part_that_does_not_exist(caplog):
    assert speed.main(["--only", "sleep"]) == 2
    assert "choose among encode, scan, search, refresh, epoch" in caplog.text


def test_the_listing_is_the_recurrence():
    mixed, dt, A, D = scan._leaves(2, 50, torch.float64)
    for chunk in (10, 50):
        found = scan._forward(lambda *given, chunk=chunk: scan.listing(*given, chunk=chunk), (mixed, dt, A, D))
        torch.testing.assert_close(found, scan._forward(reference_scan, (mixed, dt, A, D)))


def test_threads_are_as_before_afterwards():
    before = torch.get_num_threads()
    assert list(scan.threads())[:1] == [1]
    assert torch.get_num_threads() == before


def test_an_epoch_without_data_is_left_out_with_a_sentence(monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "python").touch()
    monkeypatch.setattr(epoch, "PYTHON", tmp_path / "python")
    monkeypatch.delenv("HMAMBA_DATA", raising=False)
    assert not list(epoch.figures(quick=True))
    assert "the folder of the data sets is not set" in caplog.text
    assert not list(epoch.figures(quick=True, data=tmp_path))
    assert f"{tmp_path / 'complete-journey'} does not exist" in caplog.text


def test_our_epoch_asks_after_every_event_and_learns(tmp_path):
    experiment = epoch.experiment_of(order_data(tmp_path, users=60), 40)
    run = epoch.ours(experiment, layers=1)
    epochs = [run() for _ in range(3)]
    assert len(experiment.train) == 40
    assert {taken.answers for taken in epochs} == {experiment.train.events - 40}
    assert epochs[-1].loss < epochs[0].loss
    assert min(taken.seconds for taken in epochs) > 0
