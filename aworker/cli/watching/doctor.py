"""``aworker doctor``: what is wrong with the Redis and the workers on it, and the command that mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from aworker.cli.options import ConfigOption, JsonOption, RedisUrlOption, asked_of_redis, configured

if TYPE_CHECKING:
    from rich.console import Console

    from aworker.doctor.examination import Finding

HANDBOOK = "docs/operations.md"
_MARKS = {"well": ("✓", "green"), "unknown": ("?", "cyan"), "look": ("!", "yellow"), "trouble": ("✗", "bold red")}
_PLAIN_MARKS = {"well": "ok", "unknown": "??", "look": "!", "trouble": "!!"}


def doctor(as_json: JsonOption = False, config: ConfigOption = None, redis_url: RedisUrlOption = None) -> None:
    """Say what is wrong with server, queues and workers.

    Each finding comes with why it matters and the command that mends it; nothing is changed.

    Exit code 0: nothing found (what could not be looked at is named), 10: worth a look, 20: trouble.
    """
    settings = configured(config, redis_url)
    from aworker.doctor.items import examine, exit_code
    from aworker.queues.connection import address_of

    findings = asked_of_redis(settings, lambda client: examine(client, settings), timeout_s=None)
    address = address_of(settings.redis.url)
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json({"redis": address, "exit_code": exit_code(findings), "findings": [_values(one) for one in findings]})
    else:
        _show(findings, address)
    if code := exit_code(findings):
        raise typer.Exit(code)


def _values(finding: Finding) -> dict[str, Any]:
    return {
        "item": finding.item,
        "severity": finding.severity,
        "name": finding.name or None,
        "what": finding.what,
        "why": finding.why or None,
        "mend": finding.mend or None,
        "see": f"{HANDBOOK}#{finding.name}" if finding.name else None,
    }


def _show(findings: list[Finding], address: str) -> None:
    from aworker.cli.screen.show import line, open_console

    console = open_console()
    console.print(line(f"Redis at {address}"), style="bold")
    unicode = (console.encoding or "").lower().startswith("utf")
    for finding in findings:
        mark, style = _MARKS[finding.severity]
        mark = mark if unicode else _PLAIN_MARKS[finding.severity]
        console.print(f"{mark} {finding.item}: {line(finding.what)}", style=style, soft_wrap=True)
        for heading, words in (("why", finding.why), ("mend", finding.mend)):
            if words:
                console.print(f"    {heading:5} {line(words)}", soft_wrap=True)
        if finding.name:
            console.print(f"    see   {HANDBOOK}#{finding.name}", style="dim", soft_wrap=True)
    _summarise(console, findings)


def _summarise(console: Console, findings: list[Finding]) -> None:
    counts = {severity: sum(one.severity == severity for one in findings) for severity in _MARKS}
    if counts["trouble"] or counts["look"]:
        words = f"{counts['trouble']} in trouble, {counts['look']} worth a look"
    else:
        words = "Nothing found"
    console.print(words + (f", {counts['unknown']} could not be looked at" if counts["unknown"] else ""), style="bold")
