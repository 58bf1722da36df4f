"""The chunked scan equals the recurrence: values, gradients, sequence boundaries, states."""

from __future__ import annotations

import pytest
import torch

from hmamba.model import scan
from hmamba.model.scan import chunked_scan, reference_scan


def inputs(rows=2, tokens=37, heads=3, channels=5, size=4, dtype=torch.float64, seed=0, scale=1.0):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    dt = torch.rand(rows, tokens, heads, generator=g, dtype=torch.float64).to(dtype) * scale
    A = -torch.rand(heads, generator=g, dtype=torch.float64).to(dtype) * 4 - 0.01
    return [
        normal(rows, tokens, heads, channels),
        dt,
        A,
        normal(rows, tokens, size),
        normal(rows, tokens, size),
        normal(heads),
    ]


def segments(rows, tokens, seed=0, count=5):
    g = torch.Generator().manual_seed(seed)
    return torch.sort(torch.randint(0, count, (rows, tokens), generator=g), dim=1).values


def compare(actual, expected, tolerance):
    gap = (actual - expected).abs()
    assert gap.max() <= tolerance, f"largest difference {gap.max():.3g}, mean {gap.mean():.3g}"


@pytest.mark.parametrize("tokens", [1, 2, 16, 37, 64, 65])
@pytest.mark.parametrize("chunk", [1, 3, 16, 64])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_chunked_equals_the_recurrence(tokens, chunk, packed, with_state):
    x = inputs(tokens=tokens)
    options = {
        "segment_BT": segments(2, tokens) if packed else None,
        "state_BHPN": torch.randn(2, 3, 5, 4, dtype=torch.float64) if with_state else None,
    }
    y, state = chunked_scan(*x, chunk=chunk, **options)
    expected_y, expected_state = reference_scan(*x, **options)
    compare(y, expected_y, 1e-12)
    compare(state, expected_state, 1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-4), (torch.bfloat16, 0.5)])
def test_lower_precision_stays_close(dtype, tolerance):
    exact, _ = reference_scan(*inputs(tokens=130))
    y, _ = chunked_scan(*inputs(tokens=130, dtype=dtype), chunk=32)
    compare(y.double(), exact, tolerance)


def test_long_steps_neither_overflow_nor_break_gradients():
    x = [t.requires_grad_() for t in inputs(tokens=130, dtype=torch.float32, scale=200.0)]
    y, _ = chunked_scan(*x, segment_BT=segments(2, 130), chunk=64)
    y.square().sum().backward()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(t.grad).all() for t in x)


@pytest.mark.parametrize("packed", [False, True])
def test_gradients_in_float64(packed):
    x = [t.requires_grad_() for t in inputs(rows=1, tokens=7, heads=2, channels=2, size=2)]
    state = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    boundary = torch.tensor([[0, 0, 0, 1, 1, 2, 2]]) if packed else None

    def run(*tensors):
        return chunked_scan(*tensors[:-1], segment_BT=boundary, state_BHPN=tensors[-1], chunk=3)

    assert torch.autograd.gradcheck(run, (*x, state))


@pytest.mark.parametrize("scale", [1.0, 100.0])  # at 100 most of what a token adds is forgotten at once
def test_gradients_equal_those_of_the_recurrence(scale):
    grads = []
    for way in (lambda *a, **k: chunked_scan(*a, chunk=16, **k), reference_scan):
        x = [t.requires_grad_() for t in inputs(tokens=50, dtype=torch.float32, scale=scale)]
        way(*x, segment_BT=segments(2, 50))[0].square().sum().backward()
        grads.append([t.grad for t in x])
    for mine, expected in zip(*grads, strict=True):
        compare(mine / expected.abs().max(), expected / expected.abs().max(), 1e-5)


@pytest.mark.parametrize("tokens", [1, 5, 24, 37])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("group", [1, 24, 64])  # tokens: one chunk of one row, several chunks, several rows
@pytest.mark.parametrize("read", ["outputs", "state", "both"])
def test_groups_pass_states_and_gradients_on(monkeypatch, tokens, packed, group, read):
    monkeypatch.setitem(scan._GROUP, "cpu", group)
    monkeypatch.setattr(scan, "_GROUP_CHUNKS", 3)
    random = torch.Generator().manual_seed(0)
    y_part, state_part = (torch.randn(shape, generator=random).double() for shape in ((4, tokens, 3, 5), (4, 3, 5, 4)))
    boundary = segments(4, tokens, count=3) if packed else None
    found = []
    for way in (lambda *a, **k: chunked_scan(*a, chunk=8, **k), reference_scan):
        x = [t.requires_grad_() for t in inputs(rows=4, tokens=tokens)]
        x.append(torch.ones(4, 3, 5, 4, dtype=torch.float64, requires_grad=True))
        y, state = way(*x[:-1], segment_BT=boundary, state_BHPN=x[-1])
        loss = (y * y_part).sum() * (read != "state") + (state * state_part).sum() * (read != "outputs")
        found.append([y, state, *torch.autograd.grad(loss, x)])
    for mine, expected in zip(*found, strict=True):
        compare(mine, expected, 1e-11)


def test_a_sequence_number_that_occurs_again_is_a_new_sequence():
    x = inputs(rows=1, tokens=30)
    boundary = torch.tensor([0] * 7 + [1] * 9 + [0] * 14)[None]
    for mine, expected in zip(
        chunked_scan(*x, segment_BT=boundary, chunk=16), reference_scan(*x, segment_BT=boundary), strict=True
    ):
        compare(mine, expected, 1e-12)


@pytest.mark.parametrize("tokens", [1, 40, 64, 65, 200, 1000])
def test_the_chunk_is_chosen_by_length(tokens):
    x = inputs(rows=1, tokens=tokens)
    compare(chunked_scan(*x)[0], reference_scan(*x)[0], 1e-12)
    assert scan.chunk_for(tokens) == {1: 1, 40: 40, 64: 64, 65: 40, 200: 40, 1000: 40}[tokens]


@pytest.mark.parametrize("state_dtype", [torch.float32, torch.bfloat16])
def test_products_follow_autocast(state_dtype):
    exact = inputs(tokens=130, dtype=torch.float32)
    x = [t.clone().requires_grad_() for t in exact]
    x[3] = x[3].detach().to(state_dtype).requires_grad_()  # as a projection under autocast leaves it
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = chunked_scan(*x, segment_BT=segments(2, 130))
    y.square().sum().backward()
    expected = [t.requires_grad_() for t in exact]
    right, _ = chunked_scan(*expected, segment_BT=segments(2, 130))
    right.square().sum().backward()
    assert y.dtype == torch.float32
    assert not torch.equal(y, right)
    compare(y, right, 0.5)
    for mine, other in zip(x, expected, strict=True):
        assert mine.grad.dtype == mine.dtype
        compare(mine.grad / other.grad.abs().max(), other.grad / other.grad.abs().max(), 0.05)


def test_packed_sequences_equal_one_by_one():
    lengths = [1, 20, 5, 64, 3]
    x, dt, A, B, C, D = inputs(rows=1, tokens=sum(lengths))
    segment = torch.repeat_interleave(torch.arange(5), torch.tensor(lengths))[None]
    packed, _ = chunked_scan(x, dt, A, B, C, D, segment_BT=segment, chunk=16)
    start = 0
    for length in lengths:
        part = slice(start, start + length)
        alone, _ = chunked_scan(x[:, part], dt[:, part], A, B[:, part], C[:, part], D, chunk=16)
        compare(packed[:, part], alone, 1e-12)
        start += length


@pytest.mark.parametrize("cut", [1, 16, 40])
def test_carried_state_continues_a_prefix(cut):
    x, dt, A, B, C, D = inputs(tokens=50)
    whole, final = chunked_scan(x, dt, A, B, C, D, chunk=16)
    head, state = chunked_scan(x[:, :cut], dt[:, :cut], A, B[:, :cut], C[:, :cut], D, chunk=16)
    tail, last = chunked_scan(x[:, cut:], dt[:, cut:], A, B[:, cut:], C[:, cut:], D, state_BHPN=state, chunk=16)
    compare(torch.cat([head, tail], 1), whole, 1e-12)
    compare(last, final, 1e-12)


def test_padding_with_steps_of_zero_keeps_the_state():
    x, dt, A, B, C, D = inputs(tokens=30)
    _, state = chunked_scan(x[:, :20], dt[:, :20], A, B[:, :20], C[:, :20], D, chunk=8)
    dt[:, 20:] = 0
    _, padded = chunked_scan(x, dt, A, B, C, D, chunk=8)
    compare(padded, state, 1e-12)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 5_000), (70, 100), (3, 30)])
@pytest.mark.parametrize("packed", [False, True])
def test_results_do_not_depend_on_the_number_of_threads(rows, tokens, packed):
    """One row of several groups, several rows of one group each, and a single group."""
    before, found = torch.get_num_threads(), []
    boundary = segments(rows, tokens, count=20) if packed else None
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            x = [t.requires_grad_() for t in inputs(rows, tokens, channels=16, size=8, dtype=torch.float32)]
            y, state = chunked_scan(*x, segment_BT=boundary)
            grads = torch.autograd.grad(y.square().sum() + state.square().sum(), x)
            assert torch.get_num_threads() == threads
            found.append([y, state, *grads])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(mine, other) for mine, other in zip(found[0], others, strict=True))
    expected, _ = reference_scan(*x, segment_BT=boundary)
    compare(y / expected.abs().max(), expected / expected.abs().max(), 1e-5)


def test_groups_of_a_row_have_nearly_the_same_size():
    """Threads wait for the largest group."""
    x, _, _, B, C, _ = inputs(rows=1, tokens=4_000)
    dt, A = torch.ones(1, 4_000, 3), -torch.ones(3)
    parts = [scan._chunks(part, 40) for part in (x, B, C)]
    places = scan._places(parts, scan.Decays.of(dt, A, None, 40), 40, torch.float32)
    assert [place.group.x.shape[2] for place in places] == [25] * 4
    assert [(place.first, place.last) for place in places] == [(True, False), *[(False, False)] * 2, (False, True)]
