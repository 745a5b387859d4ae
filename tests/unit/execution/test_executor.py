import asyncio
from typing import Any

import anyio
import msgspec
import pytest

from aworker.config import Config, LiveConfig, TaskConfig
from aworker.errors import ChildDied, RequestDeclined
from aworker.execution.context import Context
from aworker.execution.executor import Executor, Run
from aworker.execution.pool.parent import KILLS
from aworker.execution.registry import Handler
from aworker.execution.retry import Retry
from aworker.lease import Lease
from aworker.outcome import Completed, Failed, Lost, Outcome, Rejected, Retried, Returned
from aworker.task import Task


class Args(msgspec.Struct):
    size: int
    name: str | None = None


def run_of(function: Any, args: dict[str, Any] | None = None, *, delivery: int = 1) -> Run:
    lease = Lease(5, b"", queue="q", label="normal", level=1, delivery=delivery)
    task = Task("t1", "work", args or {})
    lease.task = task
    return Run(task, lease, Handler("work", function), anyio.CancelScope())


async def ended(run: Run, **tasks: Any) -> Outcome:
    config = Config(tasks={"work": TaskConfig(**tasks)}) if tasks else Config()
    found: list[Outcome] = []
    with run.scope:
        found.append(await Executor(LiveConfig(config), None).execute(run, lambda *_: None))
    return found[0]


async def test_an_object_is_the_result_and_anything_else_is_wrapped() -> None:
    async def obj(args: dict[str, Any], context: Context) -> Any:
        return {"a": 1}

    async def text(args: dict[str, Any], context: Context) -> Any:
        return "done"

    async def struct(args: dict[str, Any], context: Context) -> Any:
        return Args(3)

    async def odd_keys(args: dict[str, Any], context: Context) -> Any:
        return {1: 2}

    assert await ended(run_of(obj)) == Completed({"a": 1})
    assert await ended(run_of(text)) == Completed({"result": msgspec.Raw(b'"done"')})
    assert await ended(run_of(struct)) == Completed({"size": msgspec.Raw(b"3"), "name": msgspec.Raw(b"null")})
    assert await ended(run_of(odd_keys)) == Completed({"1": msgspec.Raw(b"2")})


async def test_args_are_converted_and_a_mismatch_names_path_and_value() -> None:
    async def size(args: Args, context: Context) -> Any:
        return {"size": args.size}

    assert await ended(run_of(size, {"size": 4, "unknown": 1})) == Completed({"size": 4})

    outcome = await ended(run_of(size, {"size": "four"}))

    assert isinstance(outcome, Rejected)
    assert outcome.error_type == "ArgumentsInvalid"
    assert "args.size" in outcome.error
    assert "'four'" in outcome.error


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_whatever_a_handler_raises_is_its_failure(error: BaseException) -> None:
    async def boom(args: dict[str, Any], context: Context) -> Any:
        raise error

    outcome = await ended(run_of(boom))

    assert isinstance(outcome, Failed)
    assert outcome.error_type == type(error).__name__
    assert outcome.dead_letter == "handler_raised"
    assert "boom" in outcome.cause


async def test_a_declined_request_is_kept_nowhere() -> None:
    class NoSuchThing(RequestDeclined):
        pass

    async def decline(args: dict[str, Any], context: Context) -> Any:
        raise NoSuchThing("strategy 5 must exist")

    assert await ended(run_of(decline)) == Failed("strategy 5 must exist", "NoSuchThing")


async def test_of_a_group_of_errors_the_one_that_tells_most_counts() -> None:
    async def decline(args: dict[str, Any], context: Context) -> Any:
        raise BaseExceptionGroup("both", [ValueError("x"), ExceptionGroup("inner", [RequestDeclined("no bars")])])

    async def die(args: dict[str, Any], context: Context) -> Any:
        raise ExceptionGroup("both", [RequestDeclined("no bars"), ChildDied("killed by SIGKILL")])

    assert await ended(run_of(decline)) == Failed("no bars", "RequestDeclined")
    died = await ended(run_of(die))
    assert isinstance(died, Returned)
    assert (died.reason, died.counted) == ("killed by SIGKILL", True)
    assert 0.5 <= died.delay_s <= 1.0


async def test_a_handler_over_its_timeout_is_stopped_and_failed() -> None:
    was_cancelled = anyio.Event()

    async def sleeper(args: dict[str, Any], context: Context) -> Any:
        try:
            await anyio.sleep_forever()
        finally:
            was_cancelled.set()

    outcome = await ended(run_of(sleeper), timeout_s=0.05)

    assert isinstance(outcome, Failed)
    assert outcome.error_type == "HandlerTimedOut"
    assert "within 0.05 s" in outcome.error
    assert was_cancelled.is_set()


async def test_who_stops_a_task_decides_its_outcome_and_a_lost_lease_outdoes_all() -> None:
    async def sleeper(args: dict[str, Any], context: Context) -> Any:
        await anyio.sleep_forever()

    async def stopped(*outcomes: Outcome) -> Outcome:
        run = run_of(sleeper)
        found: list[Outcome] = []

        async def execute() -> None:
            found.append(await ended(run))

        async with anyio.create_task_group() as group:
            group.start_soon(execute)
            await anyio.wait_all_tasks_blocked()
            for outcome in outcomes:
                run.stop(outcome)
        return found[0]

    released = Returned("released", counted=False)
    assert await stopped(released) == released
    assert await stopped(released, Failed("x", "X")) == released
    assert await stopped(released, Lost()) == Lost()


async def test_a_lost_lease_stops_its_handler() -> None:
    async def lose(args: dict[str, Any], context: Context) -> Any:
        run.lease.lose()
        assert context.cancelled
        await anyio.sleep_forever()

    run = run_of(lose)

    assert await ended(run) == Lost()


async def test_retries_back_off_until_they_are_used_up() -> None:
    async def boom(args: dict[str, Any], context: Context) -> Any:
        raise ValueError("no")

    first = await ended(run_of(boom), retries=2)
    third = await ended(run_of(boom, delivery=3), retries=2)

    assert isinstance(first, Retried)
    assert first.why == "handler_raised"
    assert 0.5 <= first.delay_s <= 1.0
    assert isinstance(third, Failed)


async def test_a_handler_may_ask_to_be_run_again() -> None:
    async def later(args: dict[str, Any], context: Context) -> Any:
        return Retry(delay_s=7, reason="market closed")

    assert await ended(run_of(later)) == Retried("market closed", 7)


async def test_declined_requests_are_not_retried() -> None:
    async def decline(args: dict[str, Any], context: Context) -> Any:
        raise RequestDeclined("no bars")

    assert isinstance(await ended(run_of(decline), retries=5), Failed)


async def test_a_result_given_in_spite_of_a_timeout_does_not_count() -> None:
    async def stubborn(args: dict[str, Any], context: Context) -> Any:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            return {"swallowed": True}

    outcome = await ended(run_of(stubborn), timeout_s=0.05)

    assert isinstance(outcome, Failed)
    assert outcome.error_type == "HandlerTimedOut"


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Failed("too long", "HandlerTimedOut", dead_letter="handler_timed_out"), "timed_out"),
        (Failed("cancelled on request", "TaskCancelled"), "cancelled"),
        (Returned("released: its worker drains", counted=False), "released"),
        (Lost(), "lease_lost"),
        (None, "cancelled"),
    ],
)
async def test_who_stopped_a_task_is_one_of_the_words_that_kills_are_counted_by(
    outcome: Outcome | None, word: str
) -> None:
    async def work(args: dict[str, Any], context: Context) -> Any: ...

    run = run_of(work)
    run.stopped_with = outcome

    assert run.stopped_by() == word
    assert word in KILLS


async def test_a_result_that_came_in_spite_of_a_drain_is_kept() -> None:
    async def finish(args: dict[str, Any], context: Context) -> Any:
        run.stop(Returned("released", counted=False))
        return {"done": True}

    run = run_of(finish)

    assert await ended(run) == Completed({"done": True})


async def test_a_result_that_came_in_spite_of_a_cancel_is_not_kept() -> None:
    async def finish(args: dict[str, Any], context: Context) -> Any:
        run.stop(Failed("cancelled", "TaskCancelled"))
        return {"done": True}

    run = run_of(finish)

    assert await ended(run) == Failed("cancelled", "TaskCancelled")
