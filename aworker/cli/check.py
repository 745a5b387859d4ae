"""``aworker check``: the configuration, whole and checked, and whether Redis answers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aworker.cli.options import ConfigOption, JsonOption, RedisUrlOption, asked_of_redis, configured, redacted
from aworker.errors import ConfigError, QueueUnavailable

READY_TIMEOUT_S = 5.0

if TYPE_CHECKING:
    import redis.asyncio

    from aworker.config import Config


def check(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    redis_url: RedisUrlOption = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask this host's worker whether it can consume: 0 = yes, 1 = no.")
    ] = False,
) -> None:
    """Check the configuration, show what is in force, ask Redis. Exit code 2: wrong, 69: Redis does not answer."""
    settings = configured(config, redis_url)
    if ready:
        _check_ready(settings, as_json)
        return
    from aworker.app import build_registry, settings_of_nothing
    from aworker.config import DEFAULT_PATH, configuration_file
    from aworker.queues.connection import address_of

    file = configuration_file(config)
    registry = build_registry(settings)
    task_types = sorted(handler.task_type for handler in registry)
    server: dict[str, Any] = {"address": address_of(settings.redis.url), "answers": False}
    failure: QueueUnavailable | None = None
    try:
        server.update(answers=True, version=asked_of_redis(settings, _version))
    except QueueUnavailable as error:
        failure = error
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json(
            {
                "file": None if file is None else str(file),
                "config": in_force(settings),
                "task_types": task_types,
                "redis": server,
            }
        )
    else:
        print(f"# {file}" if file is not None else f"# no file: {DEFAULT_PATH} is not there, and --config names none")
        _show(in_force(settings), task_types, server)
    for warning in settings_of_nothing(settings, registry):
        print(f"aworker: {warning}", file=sys.stderr)
    if failure is not None:
        if as_json:
            raise typer.Exit(69)
        raise failure


async def _version(client: redis.asyncio.Redis) -> str | None:
    from redis.exceptions import ResponseError

    await client.ping()
    try:
        info = await client.info("server")
    except ResponseError:
        return None  # managed services withhold it, and nothing needs it
    return info.get("valkey_version") or info.get("redis_version")


def _check_ready(settings: Config, as_json: bool) -> None:
    """Ask the worker of this host; for containers without curl. Exit code 1: it cannot consume, or none answers."""
    import http.client
    import urllib.error
    import urllib.request

    import msgspec

    where = settings.http
    if not where.port:
        raise ConfigError("http.port must be set to ask a worker whether it is ready, was 0; set one, such as 9464")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(where.host, where.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{where.port}/readyz"
    try:
        # Not by a proxy that the environment names: it is on this host.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            url, timeout=READY_TIMEOUT_S
        ) as response:
            body = response.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except (OSError, http.client.HTTPException) as error:
        body = msgspec.json.encode({"ready": False, "reasons": [f"no worker answers at {url}: {error}"]})
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        answer = {"ready": False, "reasons": [f"what answers at {url} is no worker"]}
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json(answer)
    else:
        print("ready" if answer.get("ready") else "not ready: " + "; ".join(map(str, answer.get("reasons", []))))
    if not answer.get("ready"):
        raise typer.Exit(1)


def in_force(config: Config) -> dict[str, Any]:
    """Return every field's value, in the shape of the file, without what may be secret in URLs."""
    import msgspec

    values: dict[str, Any] = msgspec.to_builtins(config)
    for section, field in (("redis", "url"), ("strategies", "url"), ("llm", "base_url")):
        if values[section][field]:
            values[section][field] = redacted(values[section][field])
    return values


def _show(values: dict[str, Any], task_types: list[str], server: dict[str, Any]) -> None:
    import msgspec

    for section, fields in values.items():
        is_one = isinstance(fields, dict)
        for table in [fields] if is_one else fields:
            if table:
                print(f"[{section}]" if is_one else f"[[{section}]]")
                for field, value in table.items():
                    print(f"{field} = {msgspec.json.encode(value).decode()}")
    print(f"\nHandlers: {', '.join(task_types)}")
    if server["answers"]:
        version = f", version {server['version']}" if server["version"] else "; its version is withheld (no INFO)"
        print(f"Redis at {server['address']} answers{version}")
