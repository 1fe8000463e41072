"""Engines: flows and tasks of Prefect that can be run as the plain functions they are made of.

A replay that only wants numbers runs the same flows as production, so that it can never say
something else; yet it needs no record of each in Prefect, and no picture of each in MLflow.
"""

import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from prefect import Flow, Task
from prefect.task_runners import ThreadPoolTaskRunner

P = ParamSpec("P")
R = TypeVar("R")

_OFF: ContextVar[bool] = ContextVar("engines_off", default=False)


@contextmanager
def engines_off() -> Iterator[None]:
    """Call flows and tasks as plain functions for the length of a block, and draw nothing."""
    token = _OFF.set(True)
    try:
        yield
    finally:
        _OFF.reset(token)


def are_off() -> bool:
    """Tell whether nobody will look at pages and pictures: only numbers are wanted."""
    return _OFF.get()


class PlainTask(Task[P, R]):
    """A task of Prefect; its plain function where engines are off."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        return self.fn(*args, **kwargs) if are_off() else super().__call__(*args, **kwargs)


class PlainFlow(Flow[P, R]):
    """A flow of Prefect; its plain function where engines are off."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        return self.fn(*args, **kwargs) if are_off() else super().__call__(*args, **kwargs)


def flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a flow of Prefect that is its plain function where engines are off.

    Parameters
    ----------
    **options
        For ``prefect.flow``.
    """

    def make(fn: Callable[P, R]) -> Flow[P, R]:
        return PlainFlow(fn, **options)

    return make


class PlainThreads:
    """Runs tasks as plain functions on threads, asked as a task runner of Prefect is.

    Parameters
    ----------
    max_workers
        How many at a time.
    """

    def __init__(self, max_workers: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, _: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)

    def submit(self, task: Task[..., R], parameters: dict[str, Any]) -> Future[R]:
        """Start a task; it sees the context it was started in, such as the bill it is on."""
        here = contextvars.copy_context()
        return self._pool.submit(here.run, lambda: task.fn(**parameters))


def threads(max_workers: int) -> "ThreadPoolTaskRunner[Any] | PlainThreads":
    """Return what runs tasks on threads, with engines or without."""
    if are_off():
        return PlainThreads(max_workers)
    return ThreadPoolTaskRunner(max_workers=max_workers)
