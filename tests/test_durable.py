"""The engine: one run at a time for each name and key, none lost, and an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from bot.durable import Engine
from bot.errors import UnavailableError


class Runs:
    """A flow that can be held at a gate, and tells what it did."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.most: dict[str, int] = {}
        self._now: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, key: str) -> None:
        self.begun.append(key)
        self._now[key] = self._now.get(key, 0) + 1
        self.most[key] = max(self.most.get(key, 0), self._now[key])
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            self.ended.append(key)
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise
        finally:
            self._now[key] -= 1


async def settled(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0)


async def started(**flows: Callable[[str], Awaitable[None]]) -> Engine:
    engine = Engine()
    for name, flow in flows.items():
        engine.register(name, flow)
    await engine.start()
    return engine


async def test_a_submitted_flow_runs_with_its_key() -> None:
    flow = Runs()
    engine = await started(drive=flow)
    await engine.submit("drive", "c1")
    await settled(lambda: flow.ended == ["c1"])
    await engine.stop()


async def test_any_number_of_submits_while_it_runs_are_one_more_run_afterwards() -> None:
    flow = Runs()
    engine = await started(drive=flow)
    flow.gate.clear()
    await engine.submit("drive", "c1")
    await settled(lambda: flow.begun == ["c1"])
    for _ in range(10):
        await engine.submit("drive", "c1")
        await asyncio.sleep(0)
    assert flow.begun == ["c1"]
    flow.gate.set()
    await settled(lambda: len(flow.ended) == 2)
    await asyncio.sleep(0.01)
    assert flow.begun == ["c1", "c1"]
    assert flow.most == {"c1": 1}
    await engine.stop()


async def test_a_submit_before_the_first_step_of_a_run_is_not_lost() -> None:
    flow = Runs()
    engine = await started(drive=flow)
    await engine.submit("drive", "c1")
    await engine.submit("drive", "c1")  # the first has a task, and did not begin yet
    await settled(lambda: flow.ended == ["c1", "c1"])
    assert flow.most == {"c1": 1}
    await engine.stop()


async def test_different_keys_and_different_flows_run_side_by_side() -> None:
    work, drive = Runs(), Runs()
    engine = await started(work=work, drive=drive)
    work.gate.clear()
    drive.gate.clear()
    for name, key in (("work", "c1"), ("work", "c2"), ("drive", "c1")):
        await engine.submit(name, key)
    await settled(lambda: sorted(work.begun) == ["c1", "c2"] and drive.begun == ["c1"])
    work.gate.set()
    drive.gate.set()
    await engine.stop()
    assert (sorted(work.ended), drive.ended) == (["c1", "c2"], ["c1"])


async def test_a_flow_that_submits_itself_runs_again() -> None:
    left = [1, 2, 3]

    async def flow(key: str) -> None:
        left.pop()
        if left:
            await engine.submit("drive", key)

    engine = await started(drive=flow)
    await engine.submit("drive", "c1")
    await settled(lambda: not left)
    await engine.stop()


@pytest.mark.parametrize(
    ("error", "level", "word"),
    [
        (UnavailableError("AWS is away.", "Wait."), "warning", "AWS is away. Wait."),
        (ZeroDivisionError("x"), "error", ""),
    ],
)
async def test_an_error_is_logged_with_its_flow_and_ends_that_run_alone(
    error: Exception, level: str, word: str
) -> None:
    ran = []

    async def flow(key: str) -> None:
        ran.append(key)
        if len(ran) == 1:
            raise error

    with capture_logs(processors=[_with_context]) as logs:
        engine = await started(drive=flow)
        await engine.submit("drive", "c1")
        await engine.submit("drive", "c2")
        await settled(lambda: len(ran) == 2)
        await engine.submit("drive", "c1")
        await settled(lambda: ran == ["c1", "c2", "c1"])
        await engine.stop()
    (entry,) = logs
    assert (entry["log_level"], entry["flow"], entry["key"]) == (level, "drive", "c1")
    assert entry.get("error", "") == word
    assert ("exc_info" in entry) is (level == "error")


def _with_context(logger: object, name: str, event: dict) -> dict:
    import structlog

    return structlog.contextvars.merge_contextvars(logger, name, event)


async def test_what_is_submitted_before_the_start_runs_once_after_it_in_its_order() -> None:
    flow = Runs()
    engine = Engine()
    engine.register("drive", flow)
    for key in ("c2", "c1", "c2"):
        await engine.submit("drive", key)
    await asyncio.sleep(0.01)
    assert flow.begun == []
    await engine.start()
    await settled(lambda: flow.ended == ["c2", "c1"])
    await engine.stop()


async def test_a_name_that_nobody_registered_is_a_bug_and_says_so() -> None:
    engine = await started()
    with pytest.raises(LookupError, match="dirve"):
        await engine.submit("dirve", "c1")
    await engine.stop()


async def test_stopping_waits_for_what_runs_and_starts_nothing_more() -> None:
    flow = Runs()
    engine = await started(drive=flow)
    flow.gate.clear()
    await engine.submit("drive", "c1")
    await settled(lambda: flow.begun == ["c1"])
    await engine.submit("drive", "c1")
    stopping = asyncio.create_task(engine.stop())
    await asyncio.sleep(0.01)
    assert not stopping.done()
    await engine.submit("drive", "c2")
    flow.gate.set()
    await stopping
    assert (flow.begun, flow.ended) == (["c1"], ["c1"])


async def test_what_does_not_end_in_time_is_cancelled_and_has_ended_when_stop_returns() -> None:
    flow = Runs()
    engine = await started(drive=flow)
    flow.gate.clear()
    await engine.submit("drive", "c1")
    await settled(lambda: flow.begun == ["c1"])
    with capture_logs() as logs:
        await engine.stop(patience=0.01)
    assert (flow.cancelled, flow.ended) == (["c1"], [])
    assert [e["event"] for e in logs] == ["flow cancelled"]


async def test_stopping_an_idle_engine_is_nothing() -> None:
    engine = await started()
    await engine.stop()
    await Engine().stop()
