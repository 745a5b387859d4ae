"""The composition root: configuration and handlers become a supervisor.

Beside cli it is the only one to know trading.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from loguru import logger

from aworker.config import Config, LiveConfig
from aworker.errors import ConfigError, LifespanFailed
from aworker.execution.lifespan import declared_lifespans
from aworker.execution.middleware import declared_middleware
from aworker.execution.registry import Registry, declared
from aworker.execution.schedules import schedules_of
from aworker.extras import missing_of, to_install
from aworker.logs import configure_logs, flush_logs, known_secrets
from aworker.worker.service import ServiceManager
from aworker.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from aworker.web.server import Listener

TRADING_CHILD_MODULES = ("aworker.trading.backtest.backtest", "aworker.trading.screening", "aworker.trading.alerts")
"""What children import before the worker is ready: the heavy libraries come with it."""


TRADING_TYPES = ("create_strategy", "backtest", "screening", "alert", "sweep", "report")


def build_registry(config: Config, closing: AsyncExitStack | None = None) -> Registry:
    """Return every handler: the built-in ones, then those of the configured modules.

    What the built-in ones have open is closed with ``closing``. Raises ConfigError when a module cannot be imported.
    """
    registry = Registry()
    if _has_trading():
        _add_trading(registry, config, closing)
    elif find_spec("aworker.trading") is not None:
        registry.advice = dict.fromkeys(TRADING_TYPES, f"this one needs more packages: {to_install('trading')}")
    for module in config.handlers.modules:
        try:
            import_module(module)
        except Exception as error:
            raise ConfigError(
                f"handlers.modules must be importable, {module!r} was not ({type(error).__name__}: {error}); "
                "check the name and the Python path"
            ) from error
    for handler in declared:
        registry.add(handler)
    registry.lifespans += declared_lifespans
    registry.middleware += declared_middleware
    return registry


def _add_trading(registry: Registry, config: Config, closing: AsyncExitStack | None) -> None:
    from aworker.queues.connection import connect
    from aworker.trading.handlers import TradingHandlers
    from aworker.trading.strategies.llm import LanguageModel
    from aworker.trading.strategies.store import Store

    redis = connect(config.strategies.url, "strategies.url") if config.strategies.url else connect(config.redis.url)
    if closing is not None:
        closing.push_async_callback(redis.aclose)
    llm, bars, costs = config.llm, config.market_data, config.backtest
    TradingHandlers(
        Store(redis, prefix=config.redis.key_prefix, first_id=config.strategies.first_id),
        bars.path or None,
        bars.max_age_s,
        costs.commission,
        costs.slippage,
        LanguageModel(llm) if llm.base_url else None,
        borrow=costs.borrow,
        per_share=costs.per_share,
        per_order=costs.per_order,
    ).register(registry)


def settings_of_nothing(config: Config, registry: Registry) -> list[str]:
    """Return a warning for each ``[tasks.TYPE]`` that no handler is for."""
    known = sorted(handler.task_type for handler in registry)
    warnings = []
    for task_type in config.tasks:
        if registry.get(task_type) is None:
            near = get_close_matches(task_type, known, n=1)
            meant = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            warnings.append(f"tasks.{task_type} must be a task type with a handler, has none; {meant}")
    return warnings


def _without_trading(registry: Registry) -> list[str]:
    types = [name for name in registry.advice if registry.get(name) is None]
    if not types:
        return []
    lacking = ", ".join(missing_of("trading"))
    return [
        f"{', '.join(types)} have no handler here, their tasks would end in the dead letters: "
        f"the extra trading is not installed ({lacking}); {to_install('trading')}"
    ]


def _look_for_bars(path: str) -> None:
    # No error: they may be imported while the worker runs.
    if path and _has_trading() and next(Path(path).glob("*/*.parquet"), None) is None:
        logger.warning(f"market_data.path must hold bars, was {path!r} without any; import some: aworker bars import")


def _has_trading() -> bool:
    # Without the domain this is a worker for other people's handlers.
    return find_spec("aworker.trading") is not None and not missing_of("trading")


async def serve(
    live: LiveConfig,
    *,
    burst: bool = False,
    feed: Callable[[], Awaitable[None]] | None = None,
    config_path: Path | None = None,
    load: Callable[[], Config] | None = None,
    on_listening: Callable[[str], object] = str,
) -> None:
    """Run a worker until it is drained. Raises ConfigError.

    ``feed`` runs beside it in the same loop once the worker is ready, and is cancelled when the worker has ended; with
    ``burst`` the worker waits for its end. ``load`` reads the configuration again when ``config_path`` changes;
    ``on_listening`` is told the page's address.
    """
    is_ready = anyio.Event()
    is_fed = anyio.Event()

    async def feed_when_ready() -> None:
        await is_ready.wait()
        if feed is not None:
            await feed()
        is_fed.set()

    _look_for_bars(live.value.market_data.path)
    async with AsyncExitStack() as closing:
        registry = build_registry(live.value, closing)
        for warning in (*_without_trading(registry), *settings_of_nothing(live.value, registry)):
            logger.warning(warning)
        supervisor = Supervisor(
            live,
            registry,
            preload=(*(TRADING_CHILD_MODULES if _has_trading() else ()), *live.value.handlers.modules),
            burst=burst,
            on_ready=is_ready.set,
            expects_more=lambda: not is_fed.is_set(),
            config_path=config_path,
            load=load,
            schedules=schedules_of(live.value, registry),
            service=ServiceManager(),
        )
        async with anyio.create_task_group() as group:
            group.start_soon(feed_when_ready)
            listener = _listener(live, supervisor, on_listening)
            if listener is not None:
                group.start_soon(listener.serve)
            await supervisor.run()
            if listener is not None:
                await listener.stop()
            group.cancel_scope.cancel()


def _listener(live: LiveConfig, supervisor: Supervisor, on_listening: Callable[[str], object]) -> Listener | None:
    http = live.value.http
    if not http.port:
        return None
    if missing := missing_of("web"):
        logger.warning(
            f"http.port must be used with the extra web, was without ({', '.join(missing)}): "
            f"there is no page and no /metrics; {to_install('web')}, or set http.port to 0"
        )
        return None
    from aworker.web.server import Listener, application, site_of

    site = site_of(live)
    app = application(live, supervisor.state, lambda: supervisor.queue, site)
    beside = "; metrics and health at /metrics, /livez, /readyz"
    return Listener(app, http.host, http.port, site, beside=beside, on_listening=on_listening)


def run(
    config: Config,
    *,
    burst: bool = False,
    feed: Callable[[], Awaitable[None]] | None = None,
    config_path: Path | None = None,
    load: Callable[[], Config] | None = None,
    on_listening: Callable[[str], object] = str,
) -> int:
    """Configure the logs, `serve`, and return the exit code. Raises ConfigError."""
    configure_logs(config.logging, known_secrets(config))

    async def serve_it() -> None:
        await serve(
            LiveConfig(config), burst=burst, feed=feed, config_path=config_path, load=load, on_listening=on_listening
        )

    collect_less_often()
    try:
        _run_to_its_end(serve_it)
    except BaseExceptionGroup as group:
        # Task groups wrap what they raise; what is wrong with configuration or start is to be told in its own words.
        wrong = _first(group)
        if isinstance(wrong, (ConfigError, LifespanFailed)):
            raise wrong from None
        raise
    finally:
        flush_logs()
    return 0


def _run_to_its_end(serve_it: Callable[[], Coroutine[Any, Any, None]]) -> None:
    # A task that a handler left in the loop may raise SystemExit there, or stop the loop: neither ends the worker, as
    # it would under asyncio.run.
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        loop = runner.get_loop()
        serving = loop.create_task(serve_it())
        while True:
            try:
                return loop.run_until_complete(serving)
            except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
                is_a_persons = signal.getsignal(signal.SIGINT) is signal.default_int_handler
                if serving.done() or (isinstance(error, KeyboardInterrupt) and is_a_persons):
                    raise
                what = f"raised {type(error).__name__} in" if not isinstance(error, RuntimeError) else "stopped"
                logger.error(f"What a handler left running {what} the loop; the worker goes on")


def collect_less_often() -> None:
    """Set the garbage collector for a process whose work is tasks."""
    # What a task leaves behind dies by its reference counts; looking for circles every 700 objects, as Python does,
    # took a sixth of a loaded worker's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory
