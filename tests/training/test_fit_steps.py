"""One step, one epoch and the decision to stop, on trainings of a few batches. What is learnt is in test_fit.py."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hmamba.errors import ConfigError, InputError
from hmamba.training import fit as fit_module
from hmamba.training.fit import Fit, batch_loss, rate_at, validate
from hmamba.training.ranks import Ranks
from tests.histories import histories_of, random_histories, randomly_valued
from tests.training.trainings import KilledError, prepared, settings

CPU = torch.device("cpu")


@pytest.fixture
def tiny(tmp_path):
    """Makes trainings of a few windows and about five batches an epoch."""

    def make(folder="a", histories=None, **sections):
        train = {"tokens": 64, "epochs": 2, **sections.pop("train", {})}
        config = settings(train=train, **sections)
        return prepared(histories or random_histories(users=16, events=20), tmp_path / folder, config)

    return make


def judged_as(monkeypatch, values):
    """Let the validations have these values; returns the weights that were validated."""
    series, weights = iter(values), []

    def validated(model, plan):
        weights.append(model.tangents.weight.detach().clone())
        if (value := next(series, "killed")) == "killed":
            raise KilledError
        return value, {"ndcg@10": value}

    monkeypatch.setattr(fit_module, "validate", validated)
    return weights


def in_seconds(monkeypatch, tick=1.0):
    """A clock that is so many seconds later each time that the training looks at it."""
    ticks = count()
    monkeypatch.setattr(fit_module, "time", SimpleNamespace(monotonic=lambda: next(ticks) * tick))


@pytest.mark.parametrize("terms", [[], ["repeats"]])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shifted", [False, True])
def test_the_loss_is_that_of_all_scores_in_one_matrix(tiny, terms, smoothing, shifted):
    histories = randomly_valued(random_histories(users=16, events=20))
    ready = tiny(histories=histories, model={"score_terms": terms, "dropout": 0.0})
    model, candidate_items = ready.model.eval(), ready.plan.candidate_items
    with torch.no_grad():
        model.tangents.weight.normal_()
    batch = ready.plan.batches.load(ready.plan.batches.epoch(0)[0])
    eligible_V = torch.from_numpy(candidate_items.eligible)
    shift_V = torch.linspace(-1, 2, len(eligible_V)) if shifted else None
    entries = batch.entries
    if shifted:
        shift_V[torch.from_numpy(np.unique(entries.columns))] = 0.0
    found = batch_loss(model, batch, eligible_V, shift_V, smoothing)
    tokens_Td = model.encode(torch.from_numpy(batch.items)[None], torch.from_numpy(batch.segments)[None])[0]
    hidden_Rd = tokens_Td[torch.from_numpy(batch.positions)]
    logits_RV = model.score().logits(model.query_vectors(hidden_Rd) @ model.item_vectors(eligible_V).T)
    if shifted:
        logits_RV = logits_RV + shift_V
    if terms:
        where = torch.from_numpy(entries.rows), torch.from_numpy(entries.columns)
        rates = model.learned_term.log_rates(hidden_Rd, entries)
        logits_RV = logits_RV.index_put(where, torch.logaddexp(logits_RV[where], rates))
    log_RV = torch.log_softmax(logits_RV, dim=1)
    rows, columns = map(torch.from_numpy, batch.targets)
    of_target = (1 - smoothing) * log_RV[rows, columns] + smoothing * log_RV[rows].mean(1)
    expected = -(torch.from_numpy(batch.weights) * of_target).sum()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_blocks_run_in_float32_on_a_cpu_unless_told_otherwise(tiny):
    ready = tiny(model={"dropout": 0.0})
    batch = ready.plan.batches.load(ready.plan.batches.epoch(0)[0])
    eligible_V = torch.from_numpy(ready.plan.candidate_items.eligible)
    losses = [batch_loss(ready.model.eval(), batch, eligible_V, bf16=bf16).detach() for bf16 in (None, False, True)]
    assert losses[0] == losses[1] != losses[2]
    assert losses[2] == pytest.approx(losses[0].item(), rel=0.01)
    assert losses[2].dtype == torch.float32


@pytest.mark.parametrize("bf16", [False, True])
def test_a_plan_says_in_which_precision_the_blocks_run(tiny, bf16, monkeypatch):
    ready, seen, real = tiny(train={"epochs": 1}), set(), fit_module.batch_loss

    def watched(*arguments, **options):
        seen.add(options["bf16"])
        return real(*arguments, **options)

    monkeypatch.setattr(fit_module, "batch_loss", watched)
    Fit(ready.model, replace(ready.plan, bf16=bf16)).run()
    assert seen == {bf16}


def test_validation_leaves_out_seen_items_where_candidates_do(tiny):
    """Each user takes two items in turn, which cannot be found where seen items are left out."""
    histories = histories_of(*([(day, 1 + 2 * (user % 5) + day % 2) for day in range(10)] for user in range(20)))
    ready = tiny(histories=histories)
    for least, worst in ((1, 0.0), (10_000, -np.inf)):
        values = []
        for exclude_seen in (False, True):
            config = settings(candidates={"exclude_seen": exclude_seen}, gate={"min_users": least})
            values.append(validate(ready.model.eval(), replace(ready.plan, config=config))[0])
        assert values[0] > values[1] == worst


def test_an_empty_validation_set_has_no_value(tiny):
    ready = tiny()
    empty = ready.plan.evaluation_set.since(int(ready.plan.evaluation_set.as_of.max()) + 1)
    assert validate(ready.model.eval(), replace(ready.plan, evaluation_set=empty)) == (None, {"ndcg@10": None})


def test_the_softmax_is_sampled_above_a_number_of_items(tiny):
    items = len(tiny().plan.candidate_items)
    for most, sampled in ((items, False), (items - 1, True)):
        ready = tiny(str(most), train={"full_softmax_items": most, "negatives": 3})
        fit = Fit(ready.model, ready.plan)
        assert (fit.negatives is not None, ready.model.tangents.sparse) == (sampled, sampled)
    counts = ready.plan.batches.histories.item_events(len(ready.plan.candidate_items.column))
    popular = int(np.argmax(counts[ready.plan.candidate_items.eligible]))
    assert (fit.negatives.draws, int(np.argmax(fit.negatives.chance_V))) == (3, popular)
    ready = tiny("smoothed", train={"full_softmax_items": items, "label_smoothing": 0.2})
    Fit(ready.model, ready.plan)
    ready = tiny("refused", train={"full_softmax_items": items - 1, "label_smoothing": 0.2})
    with pytest.raises(ConfigError, match=rf"label_smoothing = 0\.2 needs .* there are {items} candidate items: set"):
        Fit(ready.model, ready.plan)


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best"),
    [
        ([0.5, 0.1, 0.2, 0.3, 0.4], 1, [0, 1], 0),
        ([0.5, 0.1, 0.6, 0.3, 0.4], 2, [0, 1, 2, 3, 4], 2),
        ([0.5, 0.1, 0.2, 0.3, 0.4], 3, [0, 1, 2, 3], 0),
        ([0.5, 0.5, 0.5, 0.5, 0.5], 9, [0, 1, 2, 3, 4], 0),
    ],
)
def test_a_warm_start_is_epoch_zero_of_patience(tiny, monkeypatch, values, patience, epochs, best):
    ready = tiny(train={"epochs": 4, "patience": patience})
    weights = judged_as(monkeypatch, values)
    start = ready.model.tangents.weight.detach().clone()
    records = Fit(ready.model, replace(ready.plan, warm=True)).run()
    assert [record["epoch"] for record in records] == epochs
    assert [record["ndcg@10"] for record in records] == values[: len(epochs)]
    assert set(records[0]) == {"epoch", "loss", "seconds", "ndcg@10", "validation_seconds"}
    assert (records[0]["loss"], records[0]["seconds"]) == (None, 0)
    assert torch.equal(weights[0], start)
    assert torch.equal(ready.model.tangents.weight, weights[best])
    assert not ready.model.training


def test_a_resumed_warm_start_is_not_judged_again(tiny, monkeypatch):
    for values, epochs in (([0.5, 0.6], None), ([0.7, 0.8], [0, 1, 2, 3])):
        ready = tiny(train={"epochs": 3})
        judged_as(monkeypatch, values)
        fit = Fit(ready.model, replace(ready.plan, warm=True))
        if epochs is None:
            with pytest.raises(KilledError):
                fit.run()
            continue
        records = fit.run()
        assert [record["epoch"] for record in records] == epochs
        assert [record["ndcg@10"] for record in records] == [0.5, 0.6, 0.7, 0.8]


def test_without_validation_users_the_last_epoch_is_the_best(tiny, monkeypatch):
    ready = tiny(train={"epochs": 4, "patience": 1})
    weights = judged_as(monkeypatch, [None] * 4)
    fit = Fit(ready.model, ready.plan)
    assert [record["ndcg@10"] for record in fit.run()] == [None] * 4
    assert torch.equal(ready.model.tangents.weight, weights[-1])
    place = fit.checkpoint.restore(ready.plan.version, fit.model, fit.optimizer, None)
    assert (place.best, place.best_epoch) == (float("-inf"), 4)


def test_averaged_weights_are_judged_and_kept_and_training_goes_on_with_the_others(tiny, monkeypatch):
    ready = tiny(train={"ema": 0.9})
    weights = judged_as(monkeypatch, [0.1, 0.2])
    fit, own, real = Fit(ready.model, ready.plan), [], Fit._save

    def watched(self, place):
        own.append(self.model.tangents.weight.detach().clone())
        real(self, place)

    monkeypatch.setattr(Fit, "_save", watched)
    fit.run()
    assert torch.equal(ready.model.tangents.weight, weights[-1])
    assert len(own) == 2
    assert not any(torch.equal(mine, judged) for mine, judged in zip(own, weights, strict=True))


def test_the_log_tells_losses_speed_and_values(tiny, monkeypatch, caplog):
    caplog.set_level("INFO", logger="hmamba")
    in_seconds(monkeypatch)
    ready = tiny(gate={"min_users": 10_000})
    records = Fit(ready.model, replace(ready.plan, warm=True)).run()
    lines = [message for message in caplog.messages if message.startswith("train: epoch") and " at most " in message]
    for number, (line, record) in enumerate(zip(lines, records, strict=True)):
        values = f"ndcg@10 {record['ndcg@10']:.4f}, log-likelihood {record['log_likelihood']:.4f}"
        trained = ""
        if number:
            speed = f"{record['seconds']:.0f} s, {record['events_per_second']} events per second"
            trained = f"loss {record['loss']:.4f}, {speed}, "
        assert line == f"train: epoch {number} of at most 2: {trained}{values}"
    caplog.clear()
    judged_as(monkeypatch, [None])
    ready = tiny("b", train={"epochs": 1})
    Fit(ready.model, ready.plan).run()
    assert any(message.endswith(" events per second, no validation users") for message in caplog.messages)


def test_an_epoch_is_recorded_with_its_mean_loss_speed_and_curvature(tiny, monkeypatch):
    in_seconds(monkeypatch, tick := 1.23456)
    ready = tiny(model={"dropout": 0.0})
    judged_as(monkeypatch, [0.12345678, 0.2])
    plan = replace(ready.plan, learning_rate=0.0)  # so that both epochs have the same loss
    batches = plan.batches.epoch(plan.config.train.seed)
    assert len(batches) > 2
    eligible_V = torch.from_numpy(plan.candidate_items.eligible)
    loaded = [plan.batches.load(windows) for windows in batches]
    total = sum(batch_loss(ready.model.eval(), batch, eligible_V).item() for batch in loaded)
    first, second = Fit(ready.model, plan).run()
    for record in (first, second):
        assert record["loss"] == pytest.approx(total / sum(batch.weight for batch in loaded), rel=1e-4)
        seconds = tick * (len(batches) + 1)  # the clock is read once for each batch
        events = sum(plan.batches.events(windows) for windows in batches)
        assert (record["seconds"], record["events_per_second"]) == (round(seconds, 3), round(events / seconds))
        assert record["curvature"] == pytest.approx(ready.model.curvature.item(), abs=1e-6)
        assert record["validation_seconds"] == 1.235
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert first["ndcg@10"] == 0.123457
    assert first["loss"] == round(first["loss"], 6)


@pytest.mark.parametrize(("seconds", "step"), [(0.5, 1), (1, 2), (1_000, None)])
def test_checkpoints_are_written_after_so_many_seconds_and_each_epoch(tiny, monkeypatch, seconds, step):
    in_seconds(monkeypatch)
    ready, places = tiny(train={"checkpoint_seconds": seconds}), []
    monkeypatch.setattr(Fit, "_save", lambda self, place: places.append((place.epoch, place.batch)))
    judged_as(monkeypatch, [0.1, 0.2])
    Fit(ready.model, ready.plan).run()
    batches = [len(ready.plan.batches.epoch(ready.plan.config.train.seed + epoch)) for epoch in range(2)]
    # Looking at the clock after a save takes a second too, of this clock.
    within = range(0) if step is None else range(step, max(batches) + 1, step)
    expected = [(epoch, batch) for epoch in range(2) for batch in within if batch <= batches[epoch]]
    assert places == sorted([*expected, (1, 0), (2, 0)])


def test_epochs_have_orders_and_rows_of_their_own(tiny, monkeypatch):
    ready = tiny(train={"epochs": 2, "seed": 3, "row_share": 0.5})
    loads, batches = [], ready.plan.batches
    real = batches.load

    def watched(windows, seed, rank, ranks):
        loads.append((windows.tolist(), seed, rank, ranks))
        return real(windows, seed, rank, ranks)

    monkeypatch.setattr(batches, "load", watched)
    judged_as(monkeypatch, [0.1, 0.2])
    Fit(ready.model, ready.plan).run()
    orders = [[windows.tolist() for windows in batches.epoch(seed)] for seed in (3, 4)]
    assert orders[0] != orders[1]
    assert [windows for windows, *_ in loads] == orders[0] + orders[1]
    assert [seed for _, seed, *_ in loads] == list(range(3, 3 + len(loads)))
    assert {place[2:] for place in loads} == {(0, 1)}


def test_only_the_windows_of_the_plan_are_read(tiny, monkeypatch):
    ready = tiny(train={"epochs": 1})
    windows = np.zeros(len(ready.plan.batches.window_start), dtype=bool)
    windows[ready.plan.batches.epoch(0)[0][:2]] = True
    judged_as(monkeypatch, [0.1])
    fit = Fit(ready.model, replace(ready.plan, windows=windows))
    assert fit.steps == len(ready.plan.batches.epoch(0, windows))
    (record,) = fit.run()
    assert record["events_per_second"] * record["seconds"] < ready.plan.batches.events(np.arange(len(windows)))


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_ranks_batches_come_in_order(tiny, number):
    ready = tiny(train={"row_share": 0.6})
    fit = Fit(ready.model, ready.plan, Ranks(CPU, 1, 2))
    windows = ready.plan.batches.epoch(0)[:number]
    found = list(fit._loaded(windows, 7))
    expected = [ready.plan.batches.load(part, 7 + place, 1, 2) for place, part in enumerate(windows)]
    assert len(found) == number
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.items, other.items)
        assert np.array_equal(one.positions, other.positions)
        assert one.weight == other.weight


def test_a_step_has_the_rate_of_its_number_and_leaves_no_gradients(tiny):
    ready = tiny(model={"score_terms": ["repeats"]}, train={"warm_up": 0.3, "epochs": 3})
    fit = Fit(ready.model, ready.plan)
    place = fit.checkpoint.restore("none", fit.model, fit.optimizer, None)
    batch = ready.plan.batches.load(ready.plan.batches.epoch(0)[0])
    for step in range(4):
        fit._step(place, batch)
        rate = ready.plan.learning_rate * rate_at(step, fit.steps, 0.3)
        assert [group["lr"] for group in fit.optimizer.param_groups] == pytest.approx([rate, rate, 10 * rate])
        assert all(parameter.grad is None for parameter in ready.model.parameters())
        assert (place.step, place.batch) == (step + 1, step + 1)
    assert place.weight == pytest.approx(4 * batch.weight)


def test_the_length_of_a_step_is_clipped(tiny):
    """Gradients of a batch are divided by its weight, and cut to ``train.clip``; the first moments show their norm."""
    norms = {}
    for clip in (0.001, 1e6):
        ready = tiny(str(clip), model={"dropout": 0.0}, train={"clip": clip})
        fit = Fit(ready.model, ready.plan)
        place = fit.checkpoint.restore("none", fit.model, fit.optimizer, None)
        batch = ready.plan.batches.load(ready.plan.batches.epoch(0)[0])
        loss = batch_loss(ready.model.train(), batch, fit.eligible_V) / batch.weight
        trained = [parameter for parameter in ready.model.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        whole = torch.stack([part.norm() for part in gradients if part is not None]).norm().item()
        fit._step(place, batch)
        moments = [state["exp_avg"].norm() for state in fit.optimizer.state.values()]
        norms[clip] = torch.stack(moments).norm().item() / 0.1, whole
    assert norms[0.001][0] == pytest.approx(0.001, rel=1e-3)
    assert norms[1e6][0] == pytest.approx(norms[1e6][1], rel=1e-3)


def test_dropout_differs_between_seeds_steps_and_ranks_and_is_repeatable(tiny, monkeypatch):
    seeds = {}
    monkeypatch.setattr(Ranks, "sum_gradients", lambda self, parameters, loss, touched: loss)
    for seed in (0, 1, 2):
        ready = tiny(str(seed), train={"seed": seed})
        for rank in (0, 1, 2):
            fit = Fit(ready.model, ready.plan, Ranks(CPU, rank, 3))
            place = fit.checkpoint.restore("none", fit.model, fit.optimizer, None)
            batch = ready.plan.batches.load(ready.plan.batches.epoch(0)[0])
            for step in (0, 1, 2, 1):
                place.step = step
                fit._step(place, batch)
                assert seeds.setdefault((seed, rank, step), torch.initial_seed()) == torch.initial_seed()
    assert len(set(seeds.values())) == len(seeds) == 27


def test_a_rank_without_rows_takes_its_part_in_the_sum(tiny, monkeypatch):
    ready, sums = tiny(), []

    def summed(self, parameters, loss, touched):
        sums.append((loss.item(), [parameter.grad for parameter in parameters], touched))
        return loss + 2.5

    monkeypatch.setattr(Ranks, "sum_gradients", summed)
    fit = Fit(ready.model, ready.plan, Ranks(CPU, 1, 2))
    place = fit.checkpoint.restore("none", fit.model, fit.optimizer, None)
    before = ready.model.tangents.weight.detach().clone()
    whole = ready.plan.batches.load(ready.plan.batches.epoch(0)[0])
    nothing = np.zeros(0, dtype=np.int64)
    fit._step(place, replace(whole, positions=nothing, targets=(nothing, nothing), weights=np.zeros(0, np.float32)))
    ((loss, gradients, touched),) = sums
    assert (loss, touched) == (0.0, {})
    assert all(gradient is None for gradient in gradients)
    assert (place.loss, place.weight, place.step) == (2.5, whole.weight, 1)
    assert torch.equal(ready.model.tangents.weight, before)


def test_ranks_that_stand_at_different_places_are_refused(tiny, monkeypatch):
    ready = tiny()
    monkeypatch.setattr(Ranks, "from_lead", lambda self, values: [1.0, 9.0, 2.0])
    fit = Fit(ready.model, ready.plan)
    told = rf"has epoch, step and number of steps \[0, 0, {fit.steps}\], rank 0 has \[1\.0, 9\.0, 2\.0\]"
    with pytest.raises(InputError, match=told):
        fit.run()


def test_only_rank_0_validates_writes_and_ends_with_the_best_weights(tiny, monkeypatch, tmp_path):
    ready = tiny(model={"score_terms": ["cooccurrence"]}, candidates={"exclude_seen": True})
    weights = judged_as(monkeypatch, [])
    monkeypatch.setattr(Ranks, "sum_gradients", lambda self, parameters, loss, touched: loss)
    monkeypatch.setattr(Ranks, "agree", lambda self, values, what: None)
    monkeypatch.setattr(Ranks, "from_lead", lambda self, values: [0.25, 1.0])
    monkeypatch.setattr(Ranks, "union", lambda self, numbers, size: np.unique(numbers))
    fit = Fit(ready.model, replace(ready.plan, folder=tmp_path / "other"), Ranks(CPU, 1, 2))
    assert (fit.run(), weights, fit.weighed, ready.model.counted_terms) == ([], [], {}, [])
    assert not ready.model.training
    assert not (tmp_path / "other").exists()
