"""Where spans go: the provider that the program has set, or one made as OpenTelemetry's own variables say.

OTEL_TRACES_EXPORTER (otlp, console, none or whatever is installed; several by commas), OTEL_EXPORTER_OTLP_*,
OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_SPAN_*_LIMIT and OTEL_SDK_DISABLED.
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points, version
from threading import Thread

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from aworker.errors import ConfigError

_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc", "http/json": "otlp_json_http"}


class Provider:
    """A tracer provider, with what is needed of it beside."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        # The SDK has no public way to hand over a span that was recorded in another process.
        self._processor: SpanProcessor | None = getattr(provider, "_active_span_processor", None)

    def take(self, span: ReadableSpan) -> None:
        """Export a span that was recorded elsewhere."""
        if self._processor is not None:
            self._processor.on_end(span)

    def flush(self, within_s: float) -> None:
        """Export what waits, for so long at most."""
        # An exporter whose collector is away sleeps between tries: in a thread of its own it holds no process up.
        flushing = Thread(target=self.provider.force_flush, args=(int(within_s * 1000),), daemon=True, name="otel-end")
        flushing.start()
        flushing.join(within_s)


def provider_in_force(worker_id: str) -> Provider | None:
    """Return the provider in force, made and set where none is; None where OTEL_SDK_DISABLED says so.

    Raises ConfigError when OTEL_TRACES_EXPORTER names what is not installed.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    set_before = trace.get_tracer_provider()
    if isinstance(set_before, TracerProvider):
        return Provider(set_before)
    provider = TracerProvider(resource=_resource(worker_id), shutdown_on_exit=False)
    for name in _exporters():
        provider.add_span_processor(BatchSpanProcessor(_exporter(name)))
    trace.set_tracer_provider(provider)
    return Provider(provider)


def _resource(worker_id: str) -> Resource:
    own = {SERVICE_VERSION: version("aworker"), SERVICE_INSTANCE_ID: worker_id}
    said = Resource.create()
    if str(said.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        own[SERVICE_NAME] = "aworker"
    return said.merge(Resource({name: value for name, value in own.items() if name not in _named()}))


def _named() -> set[str]:
    pairs = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    return {pair.partition("=")[0].strip() for pair in pairs}


def _exporters() -> list[str]:
    names = [name.strip() for name in os.environ.get("OTEL_TRACES_EXPORTER", "").split(",") if name.strip()]
    return [name for name in dict.fromkeys(names or ["otlp"]) if name.lower() != "none"]


def _exporter(name: str) -> SpanExporter:
    entry = name
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        protocol = (protocol or "http/protobuf").strip()
        if protocol not in _OTLP:
            raise ConfigError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL must be one of {', '.join(_OTLP)}, was {protocol!r}; correct it"
            )
        entry = _OTLP[protocol]
    found = list(entry_points(group="opentelemetry_traces_exporter", name=entry))
    if not found:
        package = f"opentelemetry-exporter-{entry.replace('_', '-')}"
        advice = "pip install 'aworker[otel]'" if entry == "otlp_proto_http" else f"pip install {package}"
        meant = repr(name) if entry == name else f"{name!r} ({entry})"
        raise ConfigError(f"OTEL_TRACES_EXPORTER must be one that is installed, was {meant}; {advice}")
    exporter: SpanExporter = found[0].load()()
    return exporter
