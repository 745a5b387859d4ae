"""Taking a changed configuration into force while the worker runs: checked first, then applied whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loguru import logger

from aworker.config import Config, LiveConfig
from aworker.errors import ConfigError

LOOK_INTERVAL_S = 2.0

_FIXED: tuple[tuple[str, Callable[[Config], object]], ...] = (
    ("redis", lambda config: config.redis),
    ("queues", lambda config: tuple((queue.name, queue.label) for queue in config.queues)),
    ("worker.delivery", lambda config: config.worker.delivery),
    ("handlers.modules", lambda config: config.handlers.modules),
    ("market_data", lambda config: config.market_data),
    ("backtest", lambda config: config.backtest),
    ("strategies", lambda config: config.strategies),
    ("llm", lambda config: config.llm),
    ("otel", lambda config: config.otel),
    ("http", lambda config: (config.http.host, config.http.port, config.http.token_env)),
)


class Reload:
    """Watches the file and applies what it says."""

    def __init__(
        self,
        live: LiveConfig,
        path: Path | None,
        load: Callable[[], Config],
        apply: Callable[[Config, Config], None],
    ) -> None:
        self._live = live
        self._path = path
        self._load = load
        self._apply = apply
        self._seen = self._stamp()
        self.succeeded = self.failed = 0
        """Reloads since the start."""

    async def look(self) -> None:
        """Reload when the file has changed since it was last looked at."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            self.reload()

    def reload(self) -> None:
        """Read, check and apply; a bad file, or a change that needs a restart, changes nothing and says why."""
        old = self._live.value
        try:
            new = self._load()
            for name, part in _FIXED:
                if part(new) != part(old):
                    raise ConfigError(
                        f"{name} must stay as it is while the worker runs, was changed; restart the worker"
                    )
        except ConfigError as error:
            self.failed += 1
            logger.error(f"The configuration was not reloaded: {error}")
            return
        if new == old:
            return
        self._live.value = new
        self._apply(old, new)
        self.succeeded += 1
        logger.info("The configuration was reloaded")

    def _stamp(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
