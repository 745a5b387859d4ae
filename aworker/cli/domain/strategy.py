"""``aworker strategy``: what the store holds, and putting a strategy into it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from aworker.cli.options import ConfigOption, JsonOption, RedisUrlOption, asked_of_redis, configured

if TYPE_CHECKING:
    from rich.console import Console

    from aworker.config import Config
    from aworker.trading.strategies.store import Store
    from aworker.trading.strategies.strategy import Draft, Rules, Strategy

Answer = TypeVar("Answer")

PUBLIC_USER = 0
STDIN = "-"
_MOST_USER = 2**63 - 1

program = typer.Typer(help="The strategies that are stored.", no_args_is_help=True, rich_markup_mode=None)

IdArgument = Annotated[int, typer.Argument(metavar="ID")]


def _user(value: int) -> int:
    if not 0 <= value <= _MOST_USER:
        raise typer.BadParameter(f"must be a whole number from 0 to {_MOST_USER} (an int64), was {value}")
    return value


@program.command("list")
def list_strategies(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many")] = 20,
    user: Annotated[int | None, typer.Option("--user", help="Only those of this user; 0 is the public one")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """List strategies, the newest first."""
    settings = configured(config, redis_url)
    found = asked_of_store(settings, lambda store: store.list_strategies(user, limit=limit))
    from aworker.cli.screen.show import open_console, plain, print_json

    if as_json:
        print_json(found)
        return
    console = open_console()
    if not found:
        console.print("No strategies")
    for each in found:
        console.print(
            f"{each.strategy_id}  version {each.version}  user {each.user_id}  {plain(each.name)}", soft_wrap=True
        )


@program.command()
def show(
    strategy_id: IdArgument,
    version: Annotated[int | None, typer.Option("--version", help="[default: the latest]")] = None,
    rules: Annotated[
        bool, typer.Option("--rules", help="Its rules alone, as `create` and `backtest` take them")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Show a strategy with its rules."""
    settings = configured(config, redis_url)
    kept = _kept(settings, strategy_id)
    from aworker.cli.screen.show import open_console, print_json

    found = kept[-1] if version is None else next((each for each in kept if each.version == version), None)
    if found is None:
        from aworker.trading.strategies.store import StrategyUnknown

        numbers = f"{kept[0].version} to {kept[-1].version}"
        raise StrategyUnknown(f"--version must be one that is kept, {numbers}, was {version}; leave it out")
    if as_json:
        print_json(found)
        return
    console = open_console()
    if rules:
        from aworker.trading.strategies.strategy import source_text

        console.print(f"name: {found.name}\n{source_text(found.rules)}", soft_wrap=True)
        return
    show_strategy(console, found)
    if len(kept) > 1:
        numbers = ", ".join(str(each.version) for each in kept)
        console.print(f"Versions that are kept: {numbers}", style="dim", soft_wrap=True)


@program.command()
def versions(
    strategy_id: IdArgument, as_json: JsonOption = False, config: ConfigOption = None, redis_url: RedisUrlOption = None
) -> None:
    """Show every version that is kept, oldest first."""
    settings = configured(config, redis_url)
    kept = _kept(settings, strategy_id)
    from aworker.cli.screen.show import open_console, print_json

    if as_json:
        print_json(kept)
        return
    console = open_console()
    for each in kept:
        show_strategy(console, each)


@program.command()
def delete(
    strategy_id: IdArgument, as_json: JsonOption = False, config: ConfigOption = None, redis_url: RedisUrlOption = None
) -> None:
    """Delete a strategy with all its versions, for good."""
    settings = configured(config, redis_url)
    asked_of_store(settings, lambda store: store.delete(strategy_id))
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json({"strategy_id": strategy_id, "deleted": True})
    else:
        print(f"Strategy {strategy_id} is deleted")


@program.command()
def create(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Rules (lines such as entry: rsi(close, 14) < 30) or JSON; - reads stdin"),
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="What it does, in words or as rules")] = None,
    user: Annotated[
        int, typer.Option("--user", callback=_user, help="Its owner; 0 = public, anybody may edit it")
    ] = PUBLIC_USER,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Store a new strategy, from a file or from words."""
    _check_one_text(file, prompt)
    settings = configured(config, redis_url)
    if file is not None:
        text = read_text(file)
        draft = read_draft(text, file)
    else:
        text = prompt or ""
        from aworker.trading.prompts import strategy_from_prompt

        draft = _understood(settings, text, lambda: strategy_from_prompt(text))
    said = text.strip()
    _change(settings, as_json, lambda store, task_id: store.create(draft, user_id=user, prompt=said, task_id=task_id))


@program.command()
def edit(
    strategy_id: IdArgument,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The fields that change (exit: none takes one away), or JSON, which replaces all; - reads stdin",
        ),
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="What changes, such as: set the stop to 8%")] = None,
    version: Annotated[int | None, typer.Option("--version", help="Only if this is still the latest")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Store the next version of a strategy, as its owner would.

    What is not spoken of stays, except with JSON.
    """
    _check_one_text(file, prompt)
    settings = configured(config, redis_url)
    text = prompt or "" if file is None else read_text(file)
    current = asked_of_store(settings, lambda store: store.get(strategy_id))
    if version is not None and version != current.version:
        from aworker.trading.strategies.store import StrategyChanged

        raise StrategyChanged(
            f"--version must be the latest of strategy {strategy_id}, {current.version}, was {version}; "
            "look at what was changed and edit that"
        )
    draft = _edited(settings, text, current)
    owner, said = current.user_id, text.strip()
    _change(
        settings,
        as_json,
        lambda store, task_id: store.edit(current, draft, user_id=owner, prompt=said, task_id=task_id),
    )


@program.command()
def schema() -> None:
    """Print the JSON schema of a strategy.

    It is what `create`, `edit` and `backtest` take as JSON.
    """
    from aworker.cli.screen.show import print_json
    from aworker.trading.strategies.strategy import draft_schema

    print_json(draft_schema())


def asked_of_store(config: Config, question: Callable[[Store], Awaitable[Answer]]) -> Answer:
    """Await a question's answer from the strategy store. Raises QueueUnavailable, and what the question does."""
    import msgspec

    from aworker.trading.strategies.store import Store

    url = config.strategies.url or config.redis.url
    there = msgspec.structs.replace(config, redis=msgspec.structs.replace(config.redis, url=url))
    prefix, first_id = config.redis.key_prefix, config.strategies.first_id
    return asked_of_redis(
        there, lambda client: question(Store(client, prefix=prefix, first_id=first_id, patience_s=2.0))
    )


def _change(config: Config, as_json: bool, change: Callable[[Store, str], Awaitable[Strategy]]) -> None:
    # Make a change under a task's id of its own, and show what came of it.
    from uuid import uuid4

    from aworker.cli.screen.show import open_console, print_json

    task_id = f"cli_{uuid4().hex}"
    made = asked_of_store(config, lambda store: change(store, task_id))
    if as_json:
        print_json(made)
    else:
        show_strategy(open_console(), made)


def read_text(file: Path) -> str:
    """Return what a file says, or stdin for ``-``. Raises typer.BadParameter when it cannot be read as text."""
    try:
        if str(file) == STDIN:
            return sys.stdin.buffer.read().decode("utf-8-sig")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{str(file)!r} must be a readable text file, was not ({error})") from None


def read_draft(text: str, file: Path) -> Draft:
    """Read a strategy from JSON or from rules; rules without a name have the file's, from stdin their entry.

    Raises StrategyInvalid.
    """
    from aworker.trading.strategies.strategy import (
        MAX_NAME_CHARACTERS,
        Draft,
        check_draft,
        describe,
        draft_from_json,
        rules_from_source,
        source_fields,
    )

    if text.lstrip().startswith("{"):
        return draft_from_json(text)
    rules = rules_from_source(text)
    unnamed = rules.entry[:MAX_NAME_CHARACTERS] if str(file) == STDIN else file.stem
    return check_draft(Draft(source_fields(text).get("name", unnamed), describe(rules), rules))


def show_strategy(console: Console, strategy: Strategy) -> None:
    """Show a version: whose it is, what it was made of, its rules."""
    from aworker.cli.screen.show import plain

    title = f"Strategy {strategy.strategy_id}, version {strategy.version}: {plain(strategy.name)}"
    console.print(title, style="bold", soft_wrap=True)
    prompt = plain(" ".join(strategy.prompt.split()))
    console.print(f"{strategy.updated_at}, user {strategy.user_id}, prompt: {prompt}", soft_wrap=True)
    show_rules(console, strategy.rules)


def show_rules(console: Console, rules: Rules) -> None:
    """Show rules as lines that can be put into a file or a prompt."""
    from aworker.cli.screen.show import plain
    from aworker.trading.strategies.strategy import source_text

    for line in source_text(rules).splitlines():
        console.print(f"  {plain(line)}", style="cyan", soft_wrap=True)


def _kept(config: Config, strategy_id: int) -> list[Strategy]:
    async def read(store: Store) -> list[Strategy]:
        # The latest tells what is wrong with a record of an older system, which has no versions.
        await store.get(strategy_id)
        return await store.versions(strategy_id)

    return asked_of_store(config, read)


def _check_one_text(file: Path | None, prompt: str | None) -> None:
    if (file is None) == (prompt is None):
        raise typer.BadParameter("give a FILE or --prompt, one of the two")


def _edited(config: Config, text: str, current: Strategy) -> Draft:
    from aworker.trading.prompts import edit_from_prompt
    from aworker.trading.strategies.strategy import Draft, draft_from_json

    if text.lstrip().startswith("{"):
        return draft_from_json(text)
    known = Draft(current.name, current.description, current.rules)
    return _understood(config, text, lambda: edit_from_prompt(text, current.rules, current.name, current.prompt), known)


def _understood(config: Config, prompt: str, read: Callable[[], Draft], current: Draft | None = None) -> Draft:
    from aworker.trading.prompts import PromptNotUnderstood

    try:
        return read()
    except PromptNotUnderstood as error:
        if not config.llm.base_url:
            raise
        understood = str(error)
    import functools

    import anyio

    from aworker.trading.strategies.llm import LanguageModel

    model = LanguageModel(config.llm)
    return anyio.run(functools.partial(model.draft, prompt, current, understood=understood)).draft
