"""Calls on several threads give results in order, with one intra-op thread each."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from hmamba.parallel import _WAVE, each

CPU = torch.device("cpu")


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("count", [0, 1, 2, 3 * _WAVE, 3 * _WAVE + 1, 100])
def test_results_are_in_the_order_of_the_parts(count):
    assert list(each(lambda part: part * part, iter(range(count)), CPU)) == [part * part for part in range(count)]


@pytest.mark.usefixtures("three_threads")
def test_parts_run_at_once_with_one_intra_op_thread_each():
    together = threading.Barrier(3, timeout=30)

    def work(_: int) -> tuple[str, int]:
        together.wait()  # passes only if three calls run at once
        return threading.current_thread().name, torch.get_num_threads()

    names, threads = zip(*each(work, range(3), CPU), strict=True)
    assert len(set(names)) == 3
    assert threading.current_thread().name in names
    assert set(threads) == {1}


@pytest.mark.usefixtures("three_threads")
def test_a_thread_that_starts_later_has_as_many_intra_op_threads_as_before():
    list(each(abs, range(50), CPU))
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [3]


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_calls_have_the_modes_of_the_calling_thread(mode):
    together = threading.Barrier(3, timeout=30)

    def work(_: int) -> tuple[bool, bool]:
        together.wait()
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    with mode():
        expected = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        assert list(each(work, range(3), CPU)) == [expected] * 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("place", [0, 1, 7])
def test_an_exception_of_a_call_is_raised_and_the_threads_are_usable_afterwards(place):
    def work(part: int) -> int:
        if part == place:
            raise ValueError(f"part {part}")
        return part

    with pytest.raises(ValueError, match=f"part {place}"):
        list(each(work, range(8), CPU))
    assert torch.get_num_threads() == 3
    assert list(each(abs, range(8), CPU)) == list(range(8))


@pytest.mark.usefixtures("three_threads")
def test_calls_inside_calls_run_in_their_thread():
    def inner(part: int) -> str:
        return threading.current_thread().name

    def outer(part: int) -> bool:
        return set(each(inner, range(5), CPU)) == {threading.current_thread().name}

    assert all(each(outer, range(6), CPU))


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("device", [CPU, torch.device("cuda")])
def test_at_most_a_wave_of_parts_is_taken_before_the_first_result(device):
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for part in range(1_000):
            taken.append(part)
            yield part

    assert next(each(abs, parts(), device)) == 0
    assert len(taken) == (3 * _WAVE if device == CPU else 1)


def test_with_one_thread_nothing_is_taken_ahead():
    before, order = torch.get_num_threads(), []

    def parts() -> Iterator[int]:
        for part in range(3):
            order.append(("taken", part))
            yield part

    try:
        torch.set_num_threads(1)
        for result in each(abs, parts(), CPU):
            order.append(("result", result))
    finally:
        torch.set_num_threads(before)
    assert order == [(what, part) for part in range(3) for what in ("taken", "result")]
