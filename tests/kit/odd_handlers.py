"""What handlers give back and raise in the world, and what becomes of it.

Written before it was run, from what users of task queues report: results of numpy, pandas and pydantic, exceptions
that cannot be printed, exits, cancellations. Each case is done once in the loop and once in a child.
"""

from __future__ import annotations

import array
import asyncio
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import sys
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from aworker import RequestDeclined, Retry


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 2


class Text(str):
    pass


class Whole(int):
    pass


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Fill:
    price: float
    quantity: int


class Order(msgspec.Struct):
    symbol: str
    fill: Fill


class Model:
    """As pydantic's models behave."""

    def model_dump(self, mode: str = "python") -> dict[str, Any]:
        return {"mode": mode, "symbol": "AAPL"}


class BrokenModel:
    def model_dump(self, mode: str = "python") -> dict[str, Any]:
        raise SystemExit(9)


class Frozen(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(("a",))

    def __len__(self) -> int:
        return 1


class Liar:
    """Says that it is a dict."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return dict

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparing")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Wordless(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class Numeric(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class Anonymous(Exception, metaclass=Nameless):
    pass


class Unknown(BaseException):
    pass


class NoStrategy(RequestDeclined):
    pass


def circle() -> Any:
    around: list[Any] = []
    around.append(around)
    return around


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def chained(depth: int) -> BaseException:
    error: BaseException = ValueError("the first")
    for _ in range(depth):
        later = ValueError("later")
        later.__cause__ = error
        error = later
    return error


def attached() -> BaseException:
    error = ValueError("with an object")
    error.handle = sys.__stderr__  # type: ignore[attr-defined]
    error.itself = error  # type: ignore[attr-defined]
    return error


def notes() -> BaseException:
    error = ValueError("noted")
    error.add_note("x" * 1_000_000)
    return error


class Case(NamedTuple):
    """What is given or raised, and what its caller must get: fields of ``data``, or the type of the error."""

    give: Callable[[], Any] | None = None
    throw: Callable[[], BaseException] | None = None
    data: dict[str, Any] | None = None
    error: str = ""
    text: str = ""
    """A part of the error's text."""


OVER = "must be encodable as JSON"

CASES: dict[str, Case] = {
    # Results that are objects of their own fields.
    "dict": Case(lambda: {"a": 1, "b": None}, data={"a": 1, "b": None}),
    "empty dict": Case(dict, data={}),
    "ordered dict": Case(lambda: collections.OrderedDict(a=1), data={"a": 1}),
    "default dict": Case(lambda: collections.defaultdict(int, a=1), data={"a": 1}),
    "counter": Case(lambda: collections.Counter("aab"), data={"a": 2, "b": 1}),
    "mapping proxy": Case(lambda: types.MappingProxyType({"a": 1}), data={"a": 1}),
    "a mapping of one's own": Case(Frozen, data={"a": 1}),
    "struct": Case(lambda: Order("AAPL", Fill(1.5, 2)), data={"symbol": "AAPL", "fill": {"price": 1.5, "quantity": 2}}),
    "dataclass": Case(lambda: Fill(1.5, 2), data={"price": 1.5, "quantity": 2}),
    "model": Case(Model, data={"mode": "json", "symbol": "AAPL"}),
    "whole numbers as keys": Case(lambda: {1: "a"}, data={"1": "a"}),
    "enum as a key": Case(lambda: {Colour.RED: 1}, data={"red": 1}),
    "success false": Case(lambda: {"success": False}, data={"success": False}),
    "the worker's own fields win": Case(lambda: {"queue_type": "mine"}, data={"queue_type": "normal"}),
    # Results that are none.
    "none": Case(lambda: None, data={"result": None}),
    "text": Case(lambda: "done", data={"result": "done"}),
    "empty text": Case(str, data={"result": ""}),
    "text of a class": Case(lambda: Text("done"), data={"result": "done"}),
    "true": Case(lambda: True, data={"result": True}),
    "number": Case(lambda: 1.5, data={"result": 1.5}),
    "number of a class": Case(lambda: Whole(7), data={"result": 7}),
    "int enum": Case(lambda: Level.HIGH, data={"result": 2}),
    "enum": Case(lambda: Colour.RED, data={"result": "red"}),
    "larger than 64 bits": Case(lambda: {"a": 2**70, "b": -(2**70)}, data={"a": 2**70, "b": -(2**70)}),
    "nan and infinity": Case(lambda: {"a": float("nan"), "b": float("inf")}, data={"a": None, "b": None}),
    "list": Case(lambda: [1, "a"], data={"result": [1, "a"]}),
    "tuple": Case(lambda: (1, "a"), data={"result": [1, "a"]}),
    "named tuple": Case(lambda: Point(1, 2), data={"result": [1, 2]}),
    "set": Case(lambda: {3}, data={"result": [3]}),
    "frozen set": Case(lambda: frozenset({3}), data={"result": [3]}),
    "deque": Case(lambda: collections.deque([1, 2]), data={"result": [1, 2]}),
    "range": Case(lambda: range(3), data={"result": [0, 1, 2]}),
    "array": Case(lambda: array.array("i", [1, 2]), data={"result": [1, 2]}),
    "keys of a dict": Case(lambda: {"a": 1}.keys(), data={"result": ["a"]}),
    "bytes": Case(lambda: b"ab", data={"result": "YWI="}),
    "bytearray": Case(lambda: bytearray(b"ab"), data={"result": "YWI="}),
    "decimal": Case(lambda: decimal.Decimal("1.10"), data={"result": "1.10"}),
    "instant": Case(
        lambda: datetime.datetime(2024, 1, 2, 3, 4, tzinfo=datetime.UTC), data={"result": "2024-01-02T03:04:00Z"}
    ),
    "day": Case(lambda: datetime.date(2024, 1, 2), data={"result": "2024-01-02"}),
    "span": Case(lambda: datetime.timedelta(seconds=90), data={"result": "PT90S"}),
    "uuid": Case(lambda: uuid.UUID(int=1), data={"result": "00000000-0000-0000-0000-000000000001"}),
    "path": Case(lambda: pathlib.PurePosixPath("/data/x"), data={"result": "/data/x"}),
    "numpy number": Case(lambda: np.float64(1.5), data={"result": 1.5}),
    "numpy whole number": Case(lambda: {"a": np.int64(3)}, data={"a": 3}),
    "numpy truth": Case(lambda: {"success": np.bool_(True)}, data={"success": True}),
    "numpy array": Case(lambda: {"a": np.array([[1.0, np.nan], [2.0, 3.0]])}, data={"a": [[1.0, None], [2.0, 3.0]]}),
    "numpy text": Case(lambda: np.str_("a"), data={"result": "a"}),
    "numpy day": Case(lambda: np.datetime64("2024-01-02"), data={"result": "2024-01-02"}),
    # Results that nobody can write down.
    "object": Case(object, error="ResultInvalid", text=OVER),
    "a liar": Case(Liar, error="ResultInvalid", text="Liar"),
    "complex": Case(lambda: 1 + 2j, error="ResultInvalid", text="complex"),
    "fraction": Case(lambda: fractions.Fraction(1, 2), error="ResultInvalid", text="Fraction"),
    "generator": Case(lambda: (x for x in (1,)), error="ResultInvalid", text="generator"),
    "function": Case(lambda: len, error="ResultInvalid", text="builtin_function"),
    "class": Case(lambda: dict, error="ResultInvalid", text="type"),
    "exception": Case(lambda: ValueError("x"), error="ResultInvalid", text="ValueError"),
    "file": Case(lambda: sys.__stderr__, error="ResultInvalid", text=OVER),
    "tuple as a key": Case(lambda: {(1, 2): 3}, error="ResultInvalid", text="keys"),
    "none as a key": Case(lambda: {None: 3}, error="ResultInvalid", text="keys"),
    "half a character": Case(lambda: {"a": "\ud800"}, error="ResultInvalid", text="surrogates"),
    "half a character as a key": Case(lambda: {"\ud800": 1}, error="ResultInvalid", text="surrogates"),
    "circle": Case(lambda: {"a": circle()}, error="ResultInvalid", text="recursion"),
    "100,000 deep": Case(lambda: {"a": nested(100_000)}, error="ResultInvalid", text="recursion"),
    "5,000 digits": Case(lambda: {"a": 10**5_000}, error="ResultInvalid", text="digits"),
    "9 MB": Case(lambda: {"a": "x" * 9_000_000}, error="ResultInvalid", text="result must be"),
    "a model that exits": Case(BrokenModel, error="ResultInvalid", text="9"),
    # Exceptions.
    "ValueError": Case(throw=lambda: ValueError("no"), error="ValueError", text="ValueError: no"),
    "no text": Case(throw=lambda: ValueError(), error="ValueError", text="ValueError"),
    "SystemExit": Case(throw=lambda: SystemExit(3), error="SystemExit"),
    "KeyboardInterrupt": Case(throw=KeyboardInterrupt, error="KeyboardInterrupt"),
    "GeneratorExit": Case(throw=GeneratorExit, error="GeneratorExit"),
    "StopIteration": Case(throw=lambda: StopIteration(1), error="StopIteration|RuntimeError"),
    "StopAsyncIteration": Case(throw=StopAsyncIteration, error="StopAsyncIteration|RuntimeError"),
    "CancelledError": Case(throw=asyncio.CancelledError, error="CancelledError"),
    "TimeoutError": Case(throw=TimeoutError, error="TimeoutError"),
    "MemoryError": Case(throw=MemoryError, error="MemoryError"),
    "RecursionError": Case(throw=lambda: RecursionError("too deep"), error="RecursionError"),
    "BaseException": Case(throw=lambda: Unknown("!"), error="Unknown"),
    "NotImplementedError": Case(throw=NotImplementedError, error="NotImplementedError"),
    "OSError": Case(throw=lambda: FileNotFoundError(2, "No such file", "/x"), error="FileNotFoundError"),
    "text that raises": Case(throw=Wordless, error="Wordless", text="its text raised"),
    "text that is none": Case(throw=Numeric, error="Numeric", text="its text raised"),
    "a class without a name": Case(throw=Anonymous, error="Anonymous"),
    "half a character in the text": Case(throw=lambda: ValueError("\ud800"), error="ValueError"),
    "2 MB of text": Case(throw=lambda: ValueError("x" * 2_000_000), error="ValueError"),
    "1 MB of notes": Case(throw=notes, error="ValueError", text="noted"),
    "an object attached": Case(throw=attached, error="ValueError"),
    "a chain of 3,000": Case(throw=lambda: chained(3_000), error="ValueError", text="later"),
    "group": Case(throw=lambda: ExceptionGroup("two", [ValueError("a"), TypeError("b")]), error="ValueError", text="a"),
    "group in a group": Case(
        throw=lambda: BaseExceptionGroup("x", [ExceptionGroup("y", [KeyError("k")]), Unknown("u")]), error="KeyError"
    ),
    "declined in a group": Case(
        throw=lambda: ExceptionGroup("x", [ValueError("a"), NoStrategy("strategy 5 must exist")]),
        error="NoStrategy",
        text="strategy 5 must exist",
    ),
    "declined": Case(throw=lambda: NoStrategy("strategy 5 must exist"), error="NoStrategy", text="strategy 5"),
    # Asking for another run.
    "retry after text": Case(lambda: Retry("later", 2.0), error="TypeError", text="Retry.delay_s must be a number"),  # type: ignore[arg-type]
    "retry after a number as text": Case(lambda: Retry(delay_s="5"), error="TypeError", text="Retry.delay_s"),  # type: ignore[arg-type]
    "retry after nan": Case(lambda: Retry(float("nan")), error="ValueError", text="Retry.delay_s must be 0 to"),
    "retry after infinity": Case(lambda: Retry(float("inf")), error="ValueError", text="Retry.delay_s must be 0 to"),
    "retry before now": Case(lambda: Retry(-1), error="ValueError", text="Retry.delay_s must be 0 to"),
    "retry after 1e300": Case(lambda: Retry(1e300), error="ValueError", text="Retry.delay_s must be 0 to"),
    "retry after true": Case(lambda: Retry(True), error="TypeError", text="Retry.delay_s must be a number"),
    "retry for a number": Case(lambda: Retry(1, 5), error="TypeError", text="Retry.reason must be a text"),  # type: ignore[arg-type]
    "retry after a year": Case(
        lambda: Retry(31_536_000), error="ValueError", text="must be <= worker.max_retry_delay_s (604800)"
    ),
    "retry raised after a year": Case(throw=lambda: Retry(31_536_000), error="ValueError", text="max_retry_delay_s"),
    "retry": Case(lambda: Retry(0.05, "not yet"), data={"delivery": 2}),
    "retry raised": Case(throw=lambda: Retry(0.05, "not yet"), data={"delivery": 2}),
    "retry in a group": Case(throw=lambda: ExceptionGroup("x", [Retry(0.05), ValueError("a")]), data={"delivery": 2}),
    "the class of retry": Case(lambda: Retry, error="ResultInvalid", text="type"),
    "the class of retry raised": Case(throw=Retry, data={"delivery": 2}),
}


def do(name: str, delivery: int) -> Any:
    """Do what a case says; delivered again, it is well."""
    if delivery > 1:
        return {"delivery": delivery}
    case = CASES[name]
    if case.throw is not None:
        raise case.throw()
    assert case.give is not None
    return case.give()


async def in_the_loop(args: dict[str, Any], context: Any) -> Any:
    """A handler of the loop."""
    return do(args["case"], context.delivery)


def in_a_child(args: dict[str, Any], context: Any) -> Any:
    """A handler of a child."""
    return do(args["case"], context.delivery)
