"""Flows and tasks called as the plain functions they are."""

import threading

import pytest

from tasks.engines import are_off, engines_off, flow, threads
from tasks.metering import metered, step


@step
def doubled(n: int) -> int:
    """Double a number, unless it is negative."""
    if n < 0:
        raise ValueError(n)
    return 2 * n


@step
def shown_thread(n: int) -> tuple[int, str, bool]:
    """Tell where this ran, and whether engines were off there."""
    return n, threading.current_thread().name, are_off()


@flow(name="plain")
def doubled_twice(n: int) -> int:
    """Double a number twice."""
    once: int = doubled(n)
    return doubled(once)


def test_flows_and_tasks_run_as_functions() -> None:
    """No flow run and no task run is made: there is no server to make them at."""
    with engines_off():
        assert doubled_twice(3) == 12
    assert not are_off()


def test_errors_pass_as_they_are() -> None:
    """An error ends the block, and engines are on again."""
    with pytest.raises(ValueError, match="-1"), engines_off():
        doubled_twice(-1)
    assert not are_off()


def test_threads_run_tasks_side_by_side_on_the_same_bill() -> None:
    """Tasks on threads know that engines are off, and their time is on the bill around them."""
    with engines_off(), metered() as meter, threads(2) as runner:
        futures = [runner.submit(shown_thread, {"n": i}) for i in range(4)]
        found = [future.result() for future in futures]
    assert [n for n, _, _ in found] == [0, 1, 2, 3]
    assert all(off for _, _, off in found)
    assert threading.current_thread().name not in {name for _, name, _ in found}
    assert "shown_thread" in meter.usage().task_seconds


def test_an_error_on_a_thread_reaches_the_caller() -> None:
    """It is raised where the result is asked for."""
    with engines_off(), threads(1) as runner, pytest.raises(ValueError, match="-5"):
        runner.submit(doubled, {"n": -5}).result()
