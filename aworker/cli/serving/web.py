"""``aworker web``: the page without a worker."""

from __future__ import annotations

from typing import Annotated

import typer

from aworker.cli.options import ConfigOption, RedisUrlOption, configured

PORT = 9464


def web(
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on [default: the file's]")] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65_535, help=f"[default: the file's, else {PORT}]; 0 = any free one"),
    ] = None,
) -> None:
    """Show what all workers do on a page, until Ctrl-C.

    The same page that a worker serves where [http] port is set.
    """
    settings = configured(config, redis_url, http={"host": host, "port": port})
    import anyio
    import msgspec

    from aworker.logs import configure_logs, known_secrets
    from aworker.web.server import open_port, serve_page
    from aworker.web.site.site import token_of

    token_of(settings.http)
    if port is None and not settings.http.port:
        settings = msgspec.structs.replace(settings, http=msgspec.structs.replace(settings.http, port=PORT))
    listening = open_port(settings.http.host, settings.http.port)
    configure_logs(settings.logging, known_secrets(settings))
    anyio.run(serve_page, settings, listening)
