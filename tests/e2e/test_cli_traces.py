"""Spans of a worker as a process: where they go, and what is said when they cannot be made."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import redis
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.kit.commands import ROOT, aworker

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TASK = json.dumps({"task_id": "a", "task_type": "imported", "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"})
HANDLERS = """
import sys
from aworker import handler

@handler("imported")
async def imported(args, context):
    # redis-py looks for the metrics of it by itself.
    wanted = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "aworker.tracing.spans")
    return {"names": sorted(name for name in sys.modules if name.startswith(wanted))}
"""


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Receive what an exporter sends by OTLP over HTTP."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", received
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def burst(redis_url: str, folder: Path, **more: str) -> tuple[int, str, dict[str, object]]:
    """Run one task and return the exit code, the log, and the task's record."""
    (folder / "imported_handlers.py").write_text(HANDLERS)
    with redis.Redis.from_url(redis_url) as client:
        client.delete("task_result:a", "strategy_queue")
        client.rpush("strategy_queue", TASK)
        modules = {"AWORKER_HANDLERS__MODULES": '["imported_handlers"]', **more}
        ended = aworker("run", "--burst", "--redis-url", redis_url, cwd=folder, **modules)
        record = json.loads(client.get("task_result:a") or "{}")
    return ended.returncode, ended.stderr, record


def test_spans_go_where_the_usual_variables_say(redis_url: str, tmp_path: Path) -> None:
    with collector() as (address, received):
        code, log, record = burst(
            redis_url,
            tmp_path,
            AWORKER_OTEL__ENABLED="true",
            AWORKER_LOGGING__FORMAT="json",
            OTEL_EXPORTER_OTLP_ENDPOINT=address,
            OTEL_SERVICE_NAME="desk",
        )

    assert (code, record["status"]) == (0, "completed"), log
    resources = [part for request in received for part in request.resource_spans]
    named = {one.key: one.value.string_value for part in resources for one in part.resource.attributes}
    spans = {span.name: span for part in resources for scope in part.scope_spans for span in scope.spans}
    assert (named["service.name"], named["service.version"]) == ("desk", "0.1.0")
    assert set(spans) == {"process strategy_queue", "settle strategy_queue"}
    process = spans["process strategy_queue"]
    assert (process.trace_id.hex(), process.parent_span_id.hex()) == (TRACE_ID, "00f067aa0ba902b7")
    lines = [json.loads(line) for line in log.splitlines()]
    assert {(line["trace_id"], line["span_id"]) for line in lines if line.get("task_id") == "a"} == {
        (TRACE_ID, process.span_id.hex())
    }


def test_nothing_of_it_is_imported_where_it_is_off(redis_url: str, tmp_path: Path) -> None:
    code, log, record = burst(redis_url, tmp_path)

    assert (code, record["status"]) == (0, "completed"), log
    assert record["data"]["names"] == []  # type: ignore[index]


def test_a_collector_that_is_away_costs_no_task(redis_url: str, tmp_path: Path) -> None:
    code, log, record = burst(
        redis_url, tmp_path, AWORKER_OTEL__ENABLED="true", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9"
    )

    assert (code, record["status"]) == (0, "completed"), log


def test_without_the_extra_it_is_said_in_words(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()  # takes the place of the libraries
    path = f"{tmp_path}:{ROOT}"

    code, log, _ = burst(redis_url, tmp_path, AWORKER_OTEL__ENABLED="true", PYTHONPATH=path)
    off_code, _, record = burst(redis_url, tmp_path, PYTHONPATH=path)

    said = (
        "aworker: otel.enabled must be false without the extra otel, was true; install it: pip install 'aworker[otel]'"
    )
    assert (code, log.splitlines()[-1]) == (2, said)
    assert (off_code, record["status"]) == (0, "completed")


def test_an_exporter_that_is_not_there_is_said_in_words(redis_url: str, tmp_path: Path) -> None:
    on = {"AWORKER_OTEL__ENABLED": "true"}

    code, log, _ = burst(redis_url, tmp_path, **on, OTEL_TRACES_EXPORTER="zipkin")
    grpc_code, grpc_log, _ = burst(redis_url, tmp_path, **on, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")

    assert (code, log.splitlines()[-1]) == (
        2,
        "aworker: OTEL_TRACES_EXPORTER must be one that is installed, was 'zipkin'; "
        "pip install opentelemetry-exporter-zipkin",
    )
    assert (grpc_code, grpc_log.splitlines()[-1]) == (
        2,
        "aworker: OTEL_TRACES_EXPORTER must be one that is installed, was 'otlp' (otlp_proto_grpc); "
        "pip install opentelemetry-exporter-otlp-proto-grpc",
    )
