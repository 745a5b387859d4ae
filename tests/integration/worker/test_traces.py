"""Spans of a worker's tasks, as an in-memory exporter of OpenTelemetry's own sees them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from loguru import logger
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from aworker.client.client import Client
from aworker.config import Config, LoggingConfig, OtelConfig, TaskConfig
from aworker.errors import RequestDeclined
from aworker.execution.context import Context
from aworker.execution.policy import RetryPolicy
from aworker.logs import configure_logs, flush_logs
from aworker.queues.hand.dead_letters import DeadLetters
from tests.kit import traced_handlers
from tests.kit.queue_scripts import QueueScripts
from tests.kit.workers import config_of, eventually, running_worker

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
LIST = "strategy_queue"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def exporter_of_all() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def exporter(exporter_of_all: InMemorySpanExporter) -> InMemorySpanExporter:
    exporter_of_all.clear()
    return exporter_of_all


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Give what the log has so far, by its fields."""
    file = tmp_path / "log.jsonl"
    configure_logs(LoggingConfig(format="json", file=str(file)))

    def read() -> list[dict[str, Any]]:
        flush_logs()
        return [msgspec.json.decode(line) for line in file.read_bytes().splitlines()]

    yield read
    configure_logs(LoggingConfig(level="ERROR"))


def payload(task_type: str, *, task_id: str = "one", args: Any = None, **more: Any) -> bytes:
    return msgspec.json.encode({"task_id": task_id, "task_type": task_type, "args": args or {}, **more})


async def work(
    redis_url: str,
    handlers: Mapping[str, Callable[..., Any]],
    *payloads: bytes,
    enabled: bool = True,
    policies: Mapping[str, RetryPolicy] | None = None,
    tasks: dict[str, TaskConfig] | None = None,
) -> list[dict[str, Any]]:
    """Let a worker settle payloads, and return the records of their tasks."""
    config = config_of(redis_url, otel=OtelConfig(enabled=enabled), tasks=tasks or {})
    with anyio.fail_after(60):
        async with (
            Client(config=config) as client,
            running_worker(config, dict(handlers), policies=policies or {}),
        ):
            with QueueScripts(redis_url) as scripts:
                scripts.client.rpush(LIST, *payloads)
            ids = [json.loads(one)["task_id"] for one in payloads]
            return [await client.result(task_id, wait_s=50) or {} for task_id in ids]


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def processed(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    spans = named(exporter, "process strategy_queue")
    return {str((span.attributes or {})["messaging.message.id"]): span for span in spans}


def the(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = named(exporter, name)
    return span


def place(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def parent_of(span: ReadableSpan) -> str | None:
    return None if span.parent is None else f"{span.parent.span_id:016x}"


async def echo(args: dict[str, Any], context: Context) -> dict[str, Any]:
    return args


async def test_a_delivery_is_a_span_below_the_payloads_traceparent(
    queue: QueueScripts, redis_url: str, exporter: InMemorySpanExporter
) -> None:
    sent = payload("echo", traceparent=TRACEPARENT, tracestate="vendor=1", created_at="2024-01-01T12:00:00Z")

    await work(redis_url, {"echo": echo}, sent)

    span = the(exporter, "process strategy_queue")
    assert (place(span)[0], parent_of(span), span.kind) == (TRACE_ID, PARENT_ID, SpanKind.CONSUMER)
    assert span.context is not None
    assert span.context.trace_state.get("vendor") == "1"
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    assert str(attributes.pop("messaging.client.id")).startswith("worker_")
    assert float(str(attributes.pop("aworker.waited_s"))) > 1e6
    host, port = redis_url.removeprefix("redis://").partition("/")[0].split(":")
    assert attributes == {
        "messaging.system": "redis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "strategy_queue",
        "messaging.message.id": "one",
        "messaging.message.body.size": len(sent),
        "server.address": host,
        "server.port": int(port),
        "aworker.task_type": "echo",
        "aworker.queue": "normal",
        "aworker.delivery": 1,
        "aworker.slot": attributes["aworker.slot"],
        "aworker.outcome": "completed",
    }
    settle = the(exporter, "settle strategy_queue")
    assert (parent_of(settle), settle.kind) == (place(span)[1], SpanKind.CLIENT)
    assert span.start_time is not None
    assert settle.start_time is not None
    assert settle.end_time is not None
    assert span.end_time is not None
    assert span.start_time <= settle.start_time <= settle.end_time <= span.end_time


async def test_a_failure_is_an_error_with_its_exception(
    queue: QueueScripts, redis_url: str, exporter: InMemorySpanExporter, lines: Lines
) -> None:
    async def fail(args: dict[str, Any], context: Context) -> None:
        logger.info("about to fail")
        raise LookupError("no such strategy \ud800")

    await work(redis_url, {"fail": fail}, payload("fail", traceparent=TRACEPARENT))

    span = the(exporter, "process strategy_queue")
    assert (span.status.status_code, span.status.description) == (
        StatusCode.ERROR,
        "LookupError: no such strategy ?",
    )
    assert span.attributes is not None
    assert (span.attributes["error.type"], span.attributes["aworker.outcome"]) == ("LookupError", "failed")
    (event,) = span.events
    assert event.name == "exception"
    told = dict(event.attributes or {})
    assert (told["exception.type"], told["exception.message"]) == ("LookupError", "LookupError: no such strategy ?")
    assert "in fail" in str(told["exception.stacktrace"])
    of_task = [line for line in lines() if line.get("task_id") == "one"]
    assert [line["message"].split()[0] for line in of_task] == ["Processing", "[fail", "Failed"]
    assert {(line["trace_id"], line["span_id"]) for line in of_task} == {place(span)}


async def test_every_other_way_to_fail_is_an_error_too(
    queue: QueueScripts, redis_url: str, exporter: InMemorySpanExporter
) -> None:
    async def declined(args: dict[str, Any], context: Context) -> None:
        raise RequestDeclined("not this one")

    async def slow(args: dict[str, Any], context: Context) -> None:
        await anyio.sleep_forever()

    async def result(args: dict[str, Any], context: Context) -> Any:
        return {"no": object()}

    kinds = ("declined", "slow", "nobody", "result")
    await work(
        redis_url,
        {"declined": declined, "slow": slow, "result": result},
        *(payload(kind, task_id=kind) for kind in kinds),
        tasks={"slow": TaskConfig(timeout_s=0.05)},
    )

    told = {}
    for span in named(exporter, "process strategy_queue"):
        attributes = span.attributes or {}
        told[str(attributes["aworker.task_type"])] = (
            span.status.status_code,
            attributes["error.type"],
            [event.name for event in span.events],
        )
    assert told == {
        "declined": (StatusCode.ERROR, "RequestDeclined", ["exception"]),
        "slow": (StatusCode.ERROR, "HandlerTimedOut", ["exception"]),
        "nobody": (StatusCode.ERROR, "UnknownTaskType", ["exception"]),
        "result": (StatusCode.ERROR, "ResultInvalid", ["exception"]),
    }


async def test_each_try_is_a_span_of_its_own_with_its_own_error(
    queue: QueueScripts, redis_url: str, exporter: InMemorySpanExporter
) -> None:
    async def flaky(args: dict[str, Any], context: Context) -> dict[str, Any]:
        if context.delivery == 1:
            raise ConnectionError("at first")
        return {}

    policy = RetryPolicy(retries=2, backoff=(0.01,), jitter=0.0)
    await work(redis_url, {"flaky": flaky}, payload("flaky", traceparent=TRACEPARENT), policies={"flaky": policy})

    first, second = named(exporter, "process strategy_queue")
    assert first.attributes is not None
    assert second.attributes is not None
    assert [(one["aworker.delivery"], one["aworker.outcome"]) for one in (first.attributes, second.attributes)] == [
        (1, "retried"),
        (2, "completed"),
    ]
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert [event.name for event in first.events] == ["exception"]
    assert {parent_of(first), parent_of(second)} == {PARENT_ID}


async def test_what_a_handler_opens_and_enqueues_is_below_its_task(
    queue: QueueScripts, redis_url: str, exporter: InMemorySpanExporter, lines: Lines
) -> None:
    async def first(args: dict[str, Any], context: Context) -> dict[str, Any]:
        with trace.get_tracer("mine").start_as_current_span("mine"):
            logger.info("within mine")
            async with Client(redis_url) as client:
                await client.enqueue("second", task_id="two")
                await client.enqueue("second", task_id="three", delay_s=0.01)
                ended = (await client.result("three", wait_s=30) or {})["status"]
            context.enqueue("second", task_id="four")
        return {"ended": ended}

    async def second(args: dict[str, Any], context: Context) -> dict[str, Any]:
        return {}

    (record,) = await work(redis_url, {"first": first, "second": second}, payload("first", traceparent=TRACEPARENT))

    assert record["data"]["ended"] == "completed"

    async def all_are_there() -> dict[str, ReadableSpan]:
        found = processed(exporter)
        return found if len(found) == 4 else {}

    async with running_worker(config_of(redis_url, otel=OtelConfig(enabled=True)), {"second": second}):
        by_id = await eventually(all_are_there)
    mine = the(exporter, "mine")
    assert parent_of(mine) == place(by_id["one"])[1]
    assert {parent_of(by_id[one]) for one in ("two", "three", "four")} == {place(mine)[1]}
    assert {place(span)[0] for span in (mine, *by_id.values())} == {TRACE_ID}
    (line,) = [line for line in lines() if "within mine" in line["message"]]
    assert (line["trace_id"], line["span_id"]) == place(mine)


async def test_children_are_part_of_the_trace(
    queue: QueueScripts, redis_url: str, exporter: InMemorySpanExporter, lines: Lines
) -> None:
    async def by_offload(args: dict[str, Any], context: Context) -> Any:
        with trace.get_tracer("mine").start_as_current_span("around"):
            return await context.offload(traced_handlers.in_child, args)

    async def next_one(args: dict[str, Any], context: Context) -> None:
        return None

    records = await work(
        redis_url,
        {"whole": traced_handlers.in_child, "part": by_offload, "next": next_one},
        payload("whole", task_id="w", traceparent=TRACEPARENT, args={"url": redis_url}),
        payload("part", task_id="p"),
    )

    whole, part = (record["data"] for record in records)
    by_id = processed(exporter)
    assert (whole["trace"], whole["outside"]) == place(by_id["w"])
    assert (part["trace"], part["outside"]) == place(the(exporter, "around"))
    in_child = {place(span)[1]: span for span in named(exporter, "in the child")}
    span = in_child[whole["inside"]]
    assert (place(span)[0], parent_of(span), dict(span.attributes or {})) == (
        TRACE_ID,
        place(by_id["w"])[1],
        {"symbol": "NVDA"},
    )
    assert [(event.name, dict(event.attributes or {})) for event in span.events] == [("half way", {"rows": 3})]
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "mine"
    said = {line["task_id"]: line["span_id"] for line in lines() if "seen in the child" in line["message"]}
    assert said == {"w": whole["inside"], "p": part["inside"]}

    async def is_there() -> bool:
        return {"next", "next-by-context"} <= set(processed(exporter))

    config = config_of(redis_url, otel=OtelConfig(enabled=True))
    async with running_worker(config, {"next": next_one}):  # where the first had ended before it came to it
        await eventually(is_there)
    for name in ("next", "next-by-context"):
        enqueued = processed(exporter)[name]
        assert (place(enqueued)[0], parent_of(enqueued)) == (TRACE_ID, whole["inside"])


NO_TRACEPARENTS = (
    "",
    "nonsense",
    7,
    None,
    {"a": 1},
    [TRACEPARENT],
    "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
    "00-" + "9" * 100_000,
)
NO_TRACESTATES = ("a=1,a=2", "=,=,", "x" * 100_000, "a=\n", "ключ=1", {"a": 1}, None)


async def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(
    queue: QueueScripts, redis_url: str, exporter: InMemorySpanExporter
) -> None:
    sent = [
        payload("echo", task_id=f"t{number}", args={"x": 1}, traceparent=given, tracestate=given)
        for number, given in enumerate(NO_TRACEPARENTS)
    ]

    records = await work(redis_url, {"echo": echo}, *sent)

    assert [record["status"] for record in records] == ["completed"] * len(sent)
    spans = named(exporter, "process strategy_queue")
    assert len({place(span)[0] for span in spans}) == len(sent)
    assert {span.parent for span in spans} == {None}


async def test_a_tracestate_that_is_none_is_left_out(
    queue: QueueScripts, redis_url: str, exporter: InMemorySpanExporter
) -> None:
    states = [msgspec.json.encode(state) for state in NO_TRACESTATES]
    sent = [
        b'{"task_id":"t%d","task_type":"echo","traceparent":"%s","tracestate":%s}' % (number, TRACEPARENT.encode(), one)
        for number, one in enumerate(states)
    ]

    records = await work(redis_url, {"echo": echo}, *sent)

    assert [record["status"] for record in records] == ["completed"] * len(sent)
    assert [parent_of(span) for span in named(exporter, "process strategy_queue")] == [PARENT_ID] * len(sent)


async def test_a_payload_that_is_no_task_is_a_span_with_its_error(
    queue: QueueScripts, redis_url: str, exporter: InMemorySpanExporter
) -> None:
    config = config_of(redis_url, otel=OtelConfig(enabled=True))
    queue.client.rpush(LIST, b"\xff no task")

    async def spans() -> list[ReadableSpan]:
        return named(exporter, "process strategy_queue")

    async with running_worker(config, {"echo": echo}):
        (span,) = await eventually(spans)

    assert span.attributes is not None
    assert (span.attributes["error.type"], span.attributes["aworker.outcome"]) == ("PayloadInvalid", "rejected")


async def test_where_nobody_makes_spans_the_traceparent_is_passed_on_as_it_came(
    queue: QueueScripts, redis_url: str, exporter: InMemorySpanExporter
) -> None:
    async def first(args: dict[str, Any], context: Context) -> None:
        async with Client(redis_url) as client:
            await client.enqueue("next", task_id="next")

    await work(
        redis_url,
        {"first": first, "in_child": traced_handlers.without_otel},
        payload("first", task_id="one", traceparent=TRACEPARENT, tracestate="v=1"),
        payload("in_child", task_id="two", traceparent=TRACEPARENT, tracestate="v=1", args={"url": redis_url}),
        enabled=False,
    )

    async with Client(redis_url) as client:

        async def both() -> list[Any]:
            letters = await DeadLetters(client._redis, Config()).newest()
            return letters if len(letters) == 2 else []

        async with running_worker(config_of(redis_url), {}):
            letters = await eventually(both)
    sent = [msgspec.json.decode(letter.payload) for letter in letters]
    assert [(one["traceparent"], one["tracestate"]) for one in sent] == [(TRACEPARENT, "v=1")] * 2
    assert exporter.get_finished_spans() == ()
