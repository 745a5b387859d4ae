"""The configuration: frozen structs, layered as defaults < file < environment < flags, checked whole.

Every field has its unit in its name. An unknown section or field is an error; a missing one has its default. The
environment variable of ``[worker] slots`` is ``AWORKER_WORKER__SLOTS``, that of ``[tasks.backtest] timeout_s`` is
``AWORKER_TASKS__BACKTEST__TIMEOUT_S``; its value is read as TOML, and as plain text where it is none.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec

from aworker.errors import ConfigError

DEFAULT_PATH = Path("config/aworker.toml")
ENVIRONMENT_PREFIX = "AWORKER_"


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of the file."""


class RedisConfig(Section, frozen=True):
    url: str = "redis://127.0.0.1:6379/0"
    key_prefix: str = "aworker:"
    """Prefix of aworker's own keys; never of the names in the wire protocol."""


class WorkerConfig(Section, frozen=True):
    slots: int = 16
    reserved: dict[str, int] = msgspec.field(default_factory=lambda: {"priority": 2})
    """Slots kept free for a level (by label) and those above it; in effect at most slots // 4."""
    delivery: Literal["leased", "at-most-once"] = "leased"
    drain_timeout_s: float = 25.0
    lease_ttl_s: float = 5.0
    renew_interval_s: float = 1.0
    block_timeout_s: int = 60
    max_deliveries: int = 3
    max_per_user: int = 0
    """Tasks of one user that run at once in this process; 0 = no limit."""
    max_stall_s: float = 300.0
    """A loop blocked longer than this ends the process (exit code 70); 0 = never."""
    max_payload_bytes: int = 1_048_576
    max_retries: Annotated[int, msgspec.Meta(ge=0)] = 100
    """Times that a task may ask for another run by `Retry`."""
    max_retry_delay_s: Annotated[float, msgspec.Meta(gt=0)] = 604_800.0
    """The longest delay that it may ask for."""


class QueueConfig(Section, frozen=True):
    name: str
    label: str
    promote_after_s: float = 0.0
    """Aging: every so many seconds its oldest task has waited lift the level by one; 0 = strict priority."""
    take_from: Literal["auto", "left", "right"] = "auto"


class HandlersConfig(Section, frozen=True):
    modules: tuple[str, ...] = ()


class TaskConfig(Section, frozen=True):
    timeout_s: float | None = None
    """None = the handler's own; 0 = none."""
    expires_s: float = 0.0
    retries: int | None = None
    """Times it is tried again after it failed; None = the handler's own."""
    max_concurrent: int | None = None
    """Tasks of this type that run at once in this process; None = the handler's own, 0 = no limit."""
    duplicates: Literal["drop", "run"] = "drop"
    max_concurrent_total: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Tasks of this type that run at once over all workers; 0 = no limit."""
    max_concurrent_total_per_user: Annotated[int, msgspec.Meta(ge=0)] = 0
    rate: str = ""
    """Starts over all workers, as ``60/min``: a number, a slash, and s, min, h, d or so many of them; empty = any."""
    rate_per_user: str = ""
    burst: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Starts that a rate lets through at once after a quiet time."""


class PoolConfig(Section, frozen=True):
    processes: int = 0
    """Child processes; 0 = one per core."""
    max_tasks_per_child: int = 1_000
    max_child_memory_bytes: int = 2_147_483_648
    stop_grace_s: float = 0.5
    warm: bool = False
    """Start the children before the worker is ready, not with the first task that needs one."""
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 10
    """How far children step back behind other processes of the host, so that short tasks do not wait for heavy ones."""


class ResultsConfig(Section, frozen=True):
    ttl_s: int = 86_400
    publish: bool = True
    publish_failed: bool = True
    repeat_fast_after_s: float = 1.0
    """The final message of a task that ended within a second is published again after this; 0 = never."""
    max_bytes: int = 8_388_608


class DeadLettersConfig(Section, frozen=True):
    keep_errors: bool = True
    max_entries: int = 10_000
    max_bytes: int = 268_435_456


class MonitorConfig(Section, frozen=True):
    interval_s: float = 300.0


class LoggingConfig(Section, frozen=True):
    level: Literal["TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    format: Literal["text", "json"] = "text"
    file: str = ""
    """Path to append to; empty = stderr."""
    rotation: str = ""
    """When the file is renamed and a new one begun: a size, an interval or a time, such as "100 MB"; empty = never."""
    retention: str | Annotated[int, msgspec.Meta(ge=1)] = ""
    """Renamed files that are kept: a number, or an age such as "14 days"; empty = all."""


class OtelConfig(Section, frozen=True):
    enabled: bool = False
    """Spans by OpenTelemetry (needs the extra ``otel``); where they go the variables OTEL_* say."""


class HttpConfig(Section, frozen=True):
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """0 = nothing listens."""
    token_env: str = ""
    """The environment variable with the token that lets somebody act on the page; empty = it is read-only."""
    hosts: tuple[str, ...] = ()
    """Names that the page answers to, beside addresses, localhost and ``host``."""


class MarketDataConfig(Section, frozen=True):
    path: str = ""
    """Folder of parquet files; empty = the bundled data set."""
    max_age_s: float = 0.0
    """Bars older than this are no alert; 0 = any age."""


class BacktestConfig(Section, frozen=True):
    commission: float = 0.0
    """Fraction of the value, each side."""
    slippage: float = 0.0
    """Fraction of the price, each side, against the trade."""
    borrow: float = 0.0
    """What a short pays a year, a fraction of the value it sold."""
    per_share: float = 0.0
    """Money for each share bought or sold."""
    per_order: float = 0.0
    """Money for each order, where a strategy has an account."""


class StrategiesConfig(Section, frozen=True):
    url: str = ""
    """Redis of the strategy store; empty = that of [redis]."""
    first_id: int = 1_000_000


class LlmConfig(Section, frozen=True):
    base_url: str = ""
    model: str = ""
    api_key_env: str = "AWORKER_LLM_API_KEY"
    max_attempts: Annotated[int, msgspec.Meta(ge=1)] = 6
    """Requests of one prompt, those tried again and those that repair an answer included."""
    budget_s: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    """Of one prompt; below the timeout of create_strategy, so that its caller hears why."""
    request_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 50.0
    max_tokens: Annotated[int, msgspec.Meta(ge=256)] = 20_000
    """Of one prompt's questions and answers, as the endpoint counts them."""


class LoadConfig(Section, frozen=True):
    """A level's load; where both bounds are given, both must be passed."""

    queue: str
    """The level's label."""
    longer_than: int | None = None
    """Tasks that wait."""
    oldest_older_than_s: float | None = None
    """Since the ``created_at`` of the task that waits longest."""


class RoutingConfig(Section, frozen=True):
    """One rule of the producer's side; what it leaves out matches every task."""

    queue: str
    """The target level's label."""
    task_type: str | None = None
    args: dict[str, Any] = {}
    """Field to value, or to a list of values any of which fits; ``7`` and ``"7"`` are the same."""
    priority: str | None = None
    when: LoadConfig | None = None


class ScheduleConfig(Section, frozen=True):
    """A task that is enqueued again and again; exactly one of ``cron`` and ``every_s``."""

    name: str
    task_type: str
    cron: str = ""
    every_s: float = 0.0
    timezone: str = "UTC"
    args: dict[str, Any] = {}
    queue: str = ""
    """A level's label; empty = where the rules of routing send it."""
    priority: Literal["normal", "high"] = "normal"
    jitter_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Each tick's task is due so much later at most, by chance that the tick decides."""
    start: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    end: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    overlap: Literal["skip", "queue", "replace"] = "skip"
    """While the task of an earlier tick is there: leave the tick out, enqueue it too, or in its place."""
    catch_up: Literal["none", "last", "all"] = "last"
    """Of the ticks that nobody could enqueue in time."""
    catch_up_most: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    """With ``all``: the newest so many."""


class Config(Section, frozen=True):
    """The whole configuration, checked."""

    redis: RedisConfig = RedisConfig()
    worker: WorkerConfig = WorkerConfig()
    queues: tuple[QueueConfig, ...] = (
        QueueConfig(name="strategy_queue_priority", label="priority"),
        QueueConfig(name="strategy_queue", label="normal"),
    )
    routing: tuple[RoutingConfig, ...] = (
        RoutingConfig(task_type="create_strategy", queue="priority"),
        RoutingConfig(priority="high", queue="priority"),
        RoutingConfig(queue="normal"),
    )
    """The first rule that fits decides; where none does a task goes to the lowest level."""
    schedule: tuple[ScheduleConfig, ...] = ()
    handlers: HandlersConfig = HandlersConfig()
    tasks: dict[str, TaskConfig] = {}
    pool: PoolConfig = PoolConfig()
    results: ResultsConfig = ResultsConfig()
    dead_letters: DeadLettersConfig = DeadLettersConfig()
    monitor: MonitorConfig = MonitorConfig()
    logging: LoggingConfig = LoggingConfig()
    otel: OtelConfig = OtelConfig()
    http: HttpConfig = HttpConfig()
    market_data: MarketDataConfig = MarketDataConfig()
    backtest: BacktestConfig = BacktestConfig()
    strategies: StrategiesConfig = StrategiesConfig()
    llm: LlmConfig = LlmConfig()

    def task(self, task_type: str) -> TaskConfig:
        """Return the overrides of a task type (all defaults when there are none)."""
        return self.tasks.get(task_type, _NO_OVERRIDES)

    def label_of(self, name: str) -> str:
        """Return the label of the level with a list; the list's name where there is no such level."""
        return next((queue.label for queue in self.queues if queue.name == name), name)

    @property
    def reserved_slots(self) -> tuple[int, ...]:
        """Slots reserved in effect for each level, in the order of ``queues``."""
        most = self.worker.slots // 4
        return tuple(min(self.worker.reserved.get(queue.label, 0), most) for queue in self.queues)


_NO_OVERRIDES = TaskConfig()
_UNITS_MS = {"s": 1_000, "sec": 1_000, "min": 60_000, "h": 3_600_000, "hour": 3_600_000, "d": 86_400_000}
_RATE = re.compile(rf"([1-9]\d{{0,8}})/(\d{{0,5}})({'|'.join(_UNITS_MS)})")


def every_ms(rate: str) -> float:
    """Return how many ms a rate such as ``60/min`` holds two starts apart; 0 where it is none."""
    match = _RATE.fullmatch(rate)
    return int(match[2] or 1) * _UNITS_MS[match[3]] / int(match[1]) if match else 0.0


class LiveConfig:
    """The configuration in force; a reload replaces its value whole."""

    __slots__ = ("value",)

    def __init__(self, value: Config) -> None:
        self.value = value


def configuration_hash(config: Config) -> str:
    """Return 12 hexadecimal digits that workers share which are configured alike.

    What belongs to one process or host is left out (slots and child processes, [redis] url, [http], [logging], [otel]),
    and so is every secret.
    """
    fields = msgspec.to_builtins(config)
    del fields["redis"]["url"], fields["http"], fields["logging"], fields["otel"]
    del fields["worker"]["slots"], fields["pool"]["processes"]
    for section, field in (("strategies", "url"), ("llm", "base_url")):
        fields[section][field] = _without_secrets(fields[section][field])
    return hashlib.sha256(msgspec.json.encode(fields, order="sorted")).hexdigest()[:12]


def _without_secrets(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return []  # it is refused where it is used
    return [parts.scheme, parts.netloc.rpartition("@")[2], parts.path]


def load_config(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Read, layer and check the configuration.

    Without a path, ``config/aworker.toml`` is read if it is there. ``flags`` has the shape of the file and wins over
    everything.

    Raises ConfigError, naming the file or variable, the path, the rule and the value.
    """
    source, raw = _read_file(path)
    in_file = frozenset(_paths(raw))
    given = _overlay_environment(raw, os.environ if environment is None else environment)
    for section, fields in (flags or {}).items():
        raw.setdefault(section, {}).update(fields)
        given.update({f"{section}.{field}": _flag(section, field) for field in fields})

    def blame(path: str, rule: str = "") -> str:
        return _blamed(path, rule, given, in_file) or source

    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        path_, text = _explain(error, raw)
        raise ConfigError(f"{blame(path_)}: {text}") from None
    for path_, rule, value, advice in _broken_rules(config):
        raise ConfigError(f"{blame(path_, rule)}: {path_} must be {rule}, was {value!r}; {advice}")
    return config


def configuration_file(path: Path | None) -> Path | None:
    """Return the file that `load_config` reads: the one given, else the default one, else none."""
    return path if path is not None else DEFAULT_PATH if DEFAULT_PATH.is_file() else None


def _flag(section: str, field: str) -> str:
    return {"redis.url": "--redis-url", "logging.level": "--log-level"}.get(f"{section}.{field}", f"--{field}")


def _paths(table: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in table.items():
        yield before + name
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{name}.")


def _blamed(path: str, rule: str, given: dict[str, str], in_file: frozenset[str]) -> str | None:
    # The variable or flag that a wrong value came by; None where the file, or nothing, gave it.
    for place, name in reversed(list(given.items())):
        if path == place or path.startswith(f"{place}."):
            return name
    named_in_rule = [name for place, name in given.items() if place.rpartition(".")[2] in rule.split()]
    if named_in_rule or path in in_file:
        return ", ".join(named_in_rule) or None
    return next((name for place, name in given.items() if place.startswith(f"{path}.")), None)


def _read_file(path: Path | None) -> tuple[str, dict[str, Any]]:
    path = configuration_file(path)
    if path is None:
        return "configuration", {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the file must be readable text, was not ({error}); check --config") from None
    try:
        raw = msgspec.toml.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: the file must be TOML, was not ({error}); mend that line") from None
    return str(path), raw


def _overlay_environment(raw: dict[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or "__" not in variable:
            continue
        *tables, field = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        table = raw
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{variable} must name a table's field, but {name} is a list; set it in the file")
        table[field] = _as_toml(text, is_text=_is_text_field(tables, field))
        given[".".join((*tables, field))] = variable
    return given


def _is_text_field(tables: list[str], field: str) -> bool:
    section = Config.__annotations__.get(tables[0], "") if len(tables) == 1 else ""
    struct = globals().get(str(section))
    return bool(struct) and str(struct.__annotations__.get(field)) == "str"


def _as_toml(text: str, *, is_text: bool) -> Any:
    if is_text:
        return text
    try:
        return msgspec.toml.decode(f"value = {text}")["value"]
    except msgspec.DecodeError:
        return text


def _explain(error: msgspec.ValidationError, raw: dict[str, Any]) -> tuple[str, str]:
    message, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    path = path.replace("[...]", "")
    if message.startswith("Object contains unknown field"):
        name = message.split("`")[1]
        where = f"{path}.{name}" if path else name
        return where, f"{where} must be a known field, is unknown; check its spelling or take it out"
    value: Any = raw
    for name in path.replace("[", ".").replace("]", "").split("."):
        if isinstance(value, list) and name.isdigit():
            value = value[int(name)]
        elif isinstance(value, dict):
            value = value.get(name)
    if message.startswith("Invalid enum value"):
        message = f"one of {_values_allowed(path.rpartition('.')[2])}"
    rule = message.replace("Expected ", "").replace(", got", ", is")
    shown = "***" if path.endswith("url") else repr(value)
    return path, f"{path or 'the file'} must be {rule}, was {shown}; correct it"


def _values_allowed(field: str) -> str:
    for struct in globals().values():
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct) and field in struct.__struct_fields__:
            values = get_args(get_type_hints(struct)[field])
            if values:
                return ", ".join(map(repr, values))
    return "the values that the shipped file names"


def _broken_rules(config: Config) -> list[tuple[str, str, Any, str]]:
    worker, pool, results = config.worker, config.pool, config.results
    a_fraction = "give a fraction such as 0.001"
    labels = [queue.label for queue in config.queues]
    names = [queue.name for queue in config.queues]
    rules: list[tuple[bool, str, str, Any, str]] = [
        (len(names) >= 1, "queues", "at least one level", names, "add a [[queues]] table"),
        (len(set(names)) == len(names), "queues.name", "different for each level", names, "rename one"),
        (len(set(labels)) == len(labels), "queues.label", "different for each level", labels, "rename one"),
        (1 <= worker.slots <= 10_000, "worker.slots", "1 to 10000", worker.slots, "16 suits most hosts"),
        (worker.drain_timeout_s >= 0, "worker.drain_timeout_s", ">= 0", worker.drain_timeout_s, "use 25"),
        (worker.renew_interval_s >= 0.05, "worker.renew_interval_s", ">= 0.05", worker.renew_interval_s, "use 1"),
        (
            worker.lease_ttl_s > 2 * worker.renew_interval_s,
            "worker.lease_ttl_s",
            "> 2 * renew_interval_s",
            worker.lease_ttl_s,
            "use at least 5",
        ),
        (worker.block_timeout_s >= 1, "worker.block_timeout_s", ">= 1", worker.block_timeout_s, "use 60"),
        (worker.max_deliveries >= 1, "worker.max_deliveries", ">= 1", worker.max_deliveries, "use 3"),
        (worker.max_per_user >= 0, "worker.max_per_user", ">= 0", worker.max_per_user, "0 means no limit"),
        (worker.max_stall_s >= 0, "worker.max_stall_s", ">= 0", worker.max_stall_s, "0 means never"),
        (
            worker.max_payload_bytes >= 256,
            "worker.max_payload_bytes",
            ">= 256",
            worker.max_payload_bytes,
            "use 1048576",
        ),
        (pool.processes >= 0, "pool.processes", ">= 0", pool.processes, "0 means one per core"),
        (pool.max_tasks_per_child >= 0, "pool.max_tasks_per_child", ">= 0", pool.max_tasks_per_child, "0: never"),
        (
            pool.max_child_memory_bytes == 0 or pool.max_child_memory_bytes >= 67_108_864,
            "pool.max_child_memory_bytes",
            "0 (off) or >= 67108864 (64 MiB)",
            pool.max_child_memory_bytes,
            "a child with its libraries needs that much",
        ),
        (pool.stop_grace_s >= 0, "pool.stop_grace_s", ">= 0", pool.stop_grace_s, "use 0.5"),
        (results.ttl_s >= 1, "results.ttl_s", ">= 1", results.ttl_s, "use 86400"),
        (results.repeat_fast_after_s >= 0, "results.repeat_fast_after_s", ">= 0", results.repeat_fast_after_s, "use 1"),
        (results.max_bytes >= 1024, "results.max_bytes", ">= 1024", results.max_bytes, "use 8388608"),
        (config.dead_letters.max_entries >= 1, "dead_letters.max_entries", ">= 1", config.dead_letters.max_entries, ""),
        (config.dead_letters.max_bytes >= 1024, "dead_letters.max_bytes", ">= 1024", config.dead_letters.max_bytes, ""),
        (config.monitor.interval_s > 0, "monitor.interval_s", "> 0", config.monitor.interval_s, "use 300"),
        (config.market_data.max_age_s >= 0, "market_data.max_age_s", ">= 0", config.market_data.max_age_s, "0: off"),
        (
            0 <= config.backtest.commission < 1,
            "backtest.commission",
            "0 <= x < 1",
            config.backtest.commission,
            a_fraction,
        ),
        (0 <= config.backtest.slippage < 1, "backtest.slippage", "0 <= x < 1", config.backtest.slippage, a_fraction),
        (0 <= config.backtest.borrow < 10, "backtest.borrow", "0 <= x < 10", config.backtest.borrow, a_fraction),
        *(
            (0 <= cost < 1e6, f"backtest.{name}", "0 <= x < 1,000,000", cost, "use 0.005")
            for name, cost in (("per_share", config.backtest.per_share), ("per_order", config.backtest.per_order))
        ),
        (config.strategies.first_id >= 1, "strategies.first_id", ">= 1", config.strategies.first_id, "use 1000000"),
        (not config.llm.base_url or bool(config.llm.model), "llm.model", "set when base_url is", config.llm.model, ""),
        (
            not config.llm.base_url or config.llm.budget_s < (config.task("create_strategy").timeout_s or float("inf")),
            "llm.budget_s",
            "below tasks.create_strategy.timeout_s",
            config.llm.budget_s,
            "its caller would hear of a timeout instead of the reason",
        ),
    ]
    rules += _logging_rules(config.logging)
    for index, queue in enumerate(config.queues):
        at = f"queues[{index}]"
        rules += [
            (
                bool(queue.name.strip()) and not set(queue.name) & {'"', "\n"} and queue.name.isprintable(),
                f"{at}.name",
                "printable and without a double quote",
                queue.name,
                "name the list",
            ),
            (queue.label.strip() != "" and queue.label.isprintable(), f"{at}.label", "a word", queue.label, "name it"),
            (queue.promote_after_s >= 0, f"{at}.promote_after_s", ">= 0", queue.promote_after_s, "0 means no aging"),
        ]
    for label, count in worker.reserved.items():
        at = f"worker.reserved.{label}"
        known = label in labels or worker.reserved == WorkerConfig().reserved
        rules.append((known, at, f"the label of a level ({', '.join(labels)})", label, "check its spelling"))
        rules.append((count >= 0, at, ">= 0", count, "0 reserves nothing"))
    rules += _routing_rules(config, labels)
    rules += schedule_rules(config.schedule, config)
    for task_type, task in config.tasks.items():
        at = f"tasks.{task_type}"
        rules += [
            (task.timeout_s is None or task.timeout_s >= 0, f"{at}.timeout_s", ">= 0", task.timeout_s, "0 means none"),
            (task.expires_s >= 0, f"{at}.expires_s", ">= 0", task.expires_s, "0 means never"),
            (task.retries is None or task.retries >= 0, f"{at}.retries", ">= 0", task.retries, "0 means none"),
            (
                task.max_concurrent is None or task.max_concurrent >= 0,
                f"{at}.max_concurrent",
                ">= 0",
                task.max_concurrent,
                "0 means no limit",
            ),
        ]
        for name, rate in (("rate", task.rate), ("rate_per_user", task.rate_per_user)):
            holds = not rate or every_ms(rate) > 0
            rules.append((holds, f"{at}.{name}", "as 60/min, 5/s, 1000/d or 10/15min", rate, "correct it"))
        totals = (task.max_concurrent_total, task.max_concurrent_total_per_user, task.rate, task.rate_per_user)
        leased = not any(totals) or worker.delivery == "leased"
        rules.append((leased, "worker.delivery", f"leased for limits of {at} over all workers", worker.delivery, ""))
    return [(path, rule, value, advice or "correct it") for holds, path, rule, value, advice in rules if not holds]


Rule = tuple[bool, str, str, Any, str]


def schedule_rules(schedules: Sequence[ScheduleConfig], config: Config) -> list[Rule]:
    """Return what must hold of schedules: (holds, path, rule, value, advice)."""
    rules: list[Rule] = []
    names = [schedule.name for schedule in schedules]
    labels = [queue.label for queue in config.queues]
    if schedules:
        leased = config.worker.delivery == "leased"
        rules.append(
            (leased, "worker.delivery", "leased where there are schedules", config.worker.delivery, "change it")
        )
    for index, one in enumerate(schedules):
        at = f"schedule[{index}]"
        is_name = re.fullmatch(r"[\w.+-]{1,100}", one.name) is not None
        rules += [
            (is_name, f"{at}.name", "1 to 100 letters, digits and . _ + -", one.name, "it is part of each task_id"),
            (names.count(one.name) == 1, f"{at}.name", "different for each schedule", one.name, "rename one"),
            (bool(one.task_type), f"{at}.task_type", "a task type", one.task_type, "name it"),
            (one.queue in ("", *labels), f"{at}.queue", f"a level's label ({', '.join(labels)})", one.queue, ""),
        ]
        broken = _broken_ticks(one)
        when = one.cron or one.every_s
        rules.append((not broken, at, broken, when, "docs/later.md has examples"))
    return rules


def _broken_ticks(one: ScheduleConfig) -> str:
    from aworker.ticks import Ticks  # only for those who have schedules

    try:
        Ticks(one.cron, one.every_s, one.timezone, one.start, one.end)
    except ValueError as error:
        return str(error)
    return ""


def _logging_rules(config: LoggingConfig) -> list[tuple[bool, str, str, Any, str]]:
    rotation, retention = config.rotation, config.retention
    if not rotation and not retention:
        return []
    return [
        (bool(config.file), "logging.file", "set where rotation or retention is", config.file, "name the file"),
        (bool(rotation), "logging.rotation", "set where retention is", rotation, 'such as "100 MB" or "00:00"'),
        (
            not rotation or _is_understood(rotation=rotation),
            "logging.rotation",
            'a size, an interval or a time of the day, as in "100 MB", "1 week", "00:00", "sunday at 03:00"',
            rotation,
            "correct it",
        ),
        (
            not retention or _is_understood(retention=retention),
            "logging.retention",
            'a number of files or an age, as in 10 or "14 days"',
            retention,
            "correct it",
        ),
    ]


def _is_understood(**options: Any) -> bool:
    from loguru import logger

    try:
        # Nothing is opened: loguru alone knows its words.
        logger.remove(logger.add("no-such-folder/log", delay=True, level=1_000, **options))
    except ValueError:
        return False
    return True


def _routing_rules(config: Config, labels: list[str]) -> list[tuple[bool, str, str, Any, str]]:
    one_of = f"the label of a level ({', '.join(labels)})"
    # The shipped rules hold for levels of any name: see `client/routing.py`.
    any_label = config.routing == Config().routing
    rules: list[tuple[bool, str, str, Any, str]] = []
    for index, rule in enumerate(config.routing):
        at = f"routing[{index}]"
        rules.append((any_label or rule.queue in labels, f"{at}.queue", one_of, rule.queue, "check its spelling"))
        for field, value in rule.args.items():
            values = value if isinstance(value, list) else [value]
            holds = bool(values) and all(isinstance(one, (str, int, float)) for one in values)
            rules.append((holds, f"{at}.args.{field}", "text, a number, a boolean, or a list of them", value, ""))
        if (load := rule.when) is not None:
            bounds = [bound for bound in (load.longer_than, load.oldest_older_than_s) if bound is not None]
            rules += [
                (load.queue in labels, f"{at}.when.queue", one_of, load.queue, "check its spelling"),
                (bool(bounds), f"{at}.when", "bounded by longer_than or oldest_older_than_s", load.queue, "add one"),
                (all(bound >= 0 for bound in bounds), f"{at}.when", "bounded by numbers >= 0", bounds, "correct it"),
            ]
    return rules
