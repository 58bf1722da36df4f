"""Calls on several threads, each with one intra-op thread of PyTorch.

PyTorch divides every large operation among its intra-op threads, which wait for each other after each operation. For
operations of some microseconds, waiting costs more than it saves. Threads that compute whole parts wait once per wave
of parts. Operations of PyTorch and NumPy release Python's global lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import islice
from typing import TypeVar, cast

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

_WAVE = 4
"""Parts per thread that are computed before the first of their results is passed on. More parts: less waiting for the
last one of them, but more results in memory."""


def each(work: Callable[[Part], Result], parts: Iterable[Part], device: torch.device) -> Iterator[Result]:
    """Results of ``work`` for each part, in order, computed by as many threads as PyTorch has intra-op threads.

    Every call computes with one intra-op thread. Its result therefore does not depend on the number of threads, to the
    bit. With one thread, and on other devices than the CPU, this is :class:`map`: a result is passed on before the next
    part is taken.

    Args:
        work: function of a part. Calls must not write to the same memory. They have the inference mode and the gradient
            mode of the calling thread, but not its autocast.
        parts: parts that do not depend on each other, large enough for a call to take about a millisecond. They are
            taken in the calling thread.
        device: device of the tensors.

    Raises:
        Exception: an exception of a call. Later parts may have been computed.
    """
    remaining = iter(parts)
    while True:
        threads = torch.get_num_threads()
        if threads == 1 or device.type != "cpu":
            yield from map(work, remaining)
            return
        wave = list(islice(remaining, _WAVE * threads))
        if not wave:
            return
        yield from _results(work, wave, threads)


def _results(work: Callable[[Part], Result], wave: list[Part], threads: int) -> list[Result]:
    """Results for a wave of parts; the calling thread computes too."""
    results: list[Result | None] = [None] * len(wave)
    waiting = enumerate(wave)  # its next() runs no Python code, so two threads never get the same part
    inference, gradient = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def take() -> None:
        torch.set_num_threads(1)  # of this thread, and of threads that first use PyTorch before the wave ends
        with torch.inference_mode(inference), torch.set_grad_enabled(gradient):
            for place, part in waiting:
                results[place] = work(part)

    pool = _pool(os.getpid(), threads - 1)
    futures = [pool.submit(take) for _ in range(min(threads, len(wave)) - 1)]
    try:
        take()
    finally:
        wait([future for future in futures if not future.cancel()])
        torch.set_num_threads(threads)
    for future in futures:
        if not future.cancelled():
            future.result()
    return cast("list[Result]", results)


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of a process. The key has its number because threads do not exist in a fork of their process."""
    return ThreadPoolExecutor(threads, "parallel")
