import anyio
import pytest

from aworker.worker import periodic


async def test_an_interval_that_is_made_shorter_counts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "LOOK_AGAIN_S", 0.01)
    interval_s = 3_600.0
    ran, ran_again = anyio.Event(), anyio.Event()

    async def job() -> None:
        (ran_again if ran.is_set() else ran).set()

    async with anyio.create_task_group() as group:
        group.start_soon(periodic.every, lambda: interval_s, job)
        await ran.wait()
        await anyio.lowlevel.checkpoint()
        assert not ran_again.is_set()

        interval_s = 0.0

        with anyio.fail_after(10):
            await ran_again.wait()
        group.cancel_scope.cancel()
