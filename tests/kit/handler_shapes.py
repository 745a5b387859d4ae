"""Handlers as people write them, and what they expect of each.

Written before the code that reads signatures, from how users of arq, saq, taskiq, Celery and FastAPI write functions.
A shape is the source of a module with one handler ``run`` in it; then either why it is refused where it is declared, or
arguments as they stand in a task and what becomes of each.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Shape(msgspec.Struct, frozen=True):
    source: str
    """Behind the imports of `HEAD`; the decorator is ``@handler("shape")``."""
    answers: tuple[tuple[dict[str, Any], Any], ...] = ()
    """Arguments in the task; the result as its caller reads it, or an `Error`."""
    refused: str = ""
    """A word of why the declaration is refused."""


class Error(msgspec.Struct, frozen=True):
    error_type: str
    words: str = ""


HEAD = """
import asyncio
import dataclasses
import datetime
import decimal
import enum
import functools
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, TypedDict, Union

import msgspec

from aworker import Context, PermanentFailure, RequestDeclined, Retry, handler


class ReportArgs(msgspec.Struct):
    user_id: int
    month: str = "2026-01"


@dataclasses.dataclass
class Order:
    symbol: str
    quantity: int = 1
    tags: list[str] = dataclasses.field(default_factory=list)


class Filters(TypedDict):
    symbols: list[str]
    limit: NotRequired[int]


class Side(enum.Enum):
    BUY = "buy"
    SELL = "sell"


class Model:
    # As pydantic's models behave.
    def __init__(self, **fields):
        self.fields = fields

    @classmethod
    def model_validate(cls, value):
        if not isinstance(value, dict) or "user_id" not in value:
            raise ValueError("user_id: Field required")
        return cls(**value)

    def model_dump(self, mode="python"):
        return self.fields

"""

FUTURE = "from __future__ import annotations\n"
INVALID = "ArgumentsInvalid"

SHAPES: dict[str, Shape] = {
    # The arguments whole.
    "a struct": Shape(
        """
@handler("shape")
async def run(args: ReportArgs, context: Context) -> dict[str, Any]:
    return {"user": args.user_id, "month": args.month}
""",
        (
            ({"user_id": 1, "month": "2026-02"}, {"user": 1, "month": "2026-02"}),
            ({"user_id": 1, "more": True}, {"user": 1, "month": "2026-01"}),
            ({"user_id": "x"}, Error(INVALID, "args.user_id")),
            ({}, Error(INVALID, "user_id")),
        ),
    ),
    "a dict": Shape(
        """
@handler("shape")
async def run(args: dict, context: Context) -> dict:
    return {"got": args}
""",
        (({"a": [1]}, {"got": {"a": [1]}}), ({}, {"got": {}})),
    ),
    "a mapping of whole numbers": Shape(
        """
@handler("shape")
async def run(args: Mapping[str, int], context: Context) -> int:
    return sum(args.values())
""",
        (({"a": 1, "b": 2}, {"result": 3}), ({"a": "x"}, Error(INVALID, "args"))),
    ),
    "a dataclass": Shape(
        """
@handler("shape")
async def run(order: Order, context: Context) -> Order:
    return order
""",
        (({"symbol": "AAPL"}, {"symbol": "AAPL", "quantity": 1, "tags": []}), ({}, Error(INVALID, "symbol"))),
    ),
    "a typed dict": Shape(
        """
@handler("shape")
async def run(args: Filters, context: Context) -> int:
    return len(args["symbols"]) + args.get("limit", 0)
""",
        (({"symbols": ["A"], "limit": 4}, {"result": 5}), ({"limit": 4}, Error(INVALID, "symbols"))),
    ),
    "a model with model_validate": Shape(
        """
@handler("shape")
async def run(args: Model, context: Context) -> dict[str, Any]:
    return args.model_dump()
""",
        (({"user_id": 1}, {"user_id": 1}), ({"x": 1}, Error(INVALID, "Field required"))),
    ),
    "one of two structs": Shape(
        """
class Buy(msgspec.Struct, tag=True):
    price: float

class Sell(msgspec.Struct, tag=True):
    price: float

@handler("shape")
async def run(args: Buy | Sell, context: Context) -> str:
    return type(args).__name__
""",
        (({"type": "Sell", "price": 1}, {"result": "Sell"}), ({"type": "Hold"}, Error(INVALID, "Hold"))),
    ),
    "camel case on the wire": Shape(
        """
class Args(msgspec.Struct, rename="camel"):
    user_id: int

@handler("shape")
async def run(args: Args, context: Context) -> int:
    return args.user_id
""",
        (({"userId": 3}, {"result": 3}),),
    ),
    "anything": Shape(
        """
@handler("shape")
async def run(args: Any, context: Context) -> Any:
    return args
""",
        (({"a": 1}, {"a": 1}),),
    ),
    "nothing annotated": Shape(
        """
@handler("shape")
async def run(args, context):
    return {"id": context.task_id, **args}
""",
        (({"a": 1}, {"id": "task", "a": 1}),),
    ),
    "nothing annotated, other names": Shape(
        """
@handler("shape")
async def run(payload, c):
    return {"id": c.task_id, **payload}
""",
        (({"a": 1}, {"id": "task", "a": 1}),),
    ),
    "a struct alone": Shape(
        """
@handler("shape")
async def run(args: ReportArgs) -> int:
    return args.user_id
""",
        (({"user_id": 5}, {"result": 5}), ({}, Error(INVALID, "user_id"))),
    ),
    "a struct alone behind the context": Shape(
        """
@handler("shape")
async def run(context: Context, order: Order) -> str:
    return f"{context.task_id} {order.symbol}"
""",
        (({"symbol": "IBM"}, {"result": "task IBM"}),),
    ),
    "args alone, not annotated": Shape(
        """
@handler("shape")
async def run(args):
    return args
""",
        (({"a": 1}, {"a": 1}),),
    ),
    "a default of its own behind the context": Shape(
        """
@handler("shape")
async def run(args: dict[str, Any], context: Context, scale: int = 3) -> int:
    return args["a"] * scale
""",
        (({"a": 2}, {"result": 6}),),
    ),
    # Each argument under its own name.
    "its own names": Shape(
        """
@handler("shape")
async def run(user_id: int, month: str) -> dict[str, Any]:
    return {"user": user_id, "month": month}
""",
        (
            ({"user_id": 1, "month": "x"}, {"user": 1, "month": "x"}),
            ({"user_id": 1, "month": "x", "more": None}, {"user": 1, "month": "x"}),
            ({"user_id": 1}, Error(INVALID, "month")),
            ({"user_id": "one", "month": "x"}, Error(INVALID, "args.user_id")),
        ),
    ),
    "a default": Shape(
        """
@handler("shape")
async def run(user_id: int, limit: int = 100) -> int:
    return limit
""",
        (
            ({"user_id": 1}, {"result": 100}),
            ({"user_id": 1, "limit": 5}, {"result": 5}),
            ({"user_id": 1, "limit": None}, {"result": 100}),
            ({"user_id": 1, "limit": "5"}, Error(INVALID, "args.limit")),
        ),
    ),
    "a default that is a list": Shape(
        """
@handler("shape")
async def run(symbols: list[str] = ["AAPL"], since: Optional[str] = "now") -> list[Any]:
    return [symbols, since]
""",
        (({}, {"result": [["AAPL"], "now"]}), ({"symbols": [], "since": None}, {"result": [[], None]})),
    ),
    "optional without a default": Shape(
        """
@handler("shape")
async def run(user_id: Optional[int], name: str | None) -> list[Any]:
    return [user_id, name]
""",
        (({"user_id": None, "name": "x"}, {"result": [None, "x"]}), ({"name": None}, Error(INVALID, "user_id"))),
    ),
    "keywords only": Shape(
        """
@handler("shape")
async def run(*, user_id: int, month: str = "m") -> str:
    return f"{user_id} {month}"
""",
        (({"user_id": 1}, {"result": "1 m"}),),
    ),
    "positions only": Shape(
        """
@handler("shape")
async def run(user_id: int, month: str = "m", /) -> str:
    return f"{user_id} {month}"
""",
        (({"user_id": 1}, {"result": "1 m"}), ({"user_id": 1, "month": "x"}, {"result": "1 x"})),
    ),
    "the context first": Shape(
        """
@handler("shape")
async def run(context: Context, user_id: int, month: str = "m") -> str:
    return f"{context.task_id} {user_id} {month}"
""",
        (({"user_id": 1}, {"result": "task 1 m"}),),
    ),
    "the context first, as arq names it": Shape(
        """
@handler("shape")
async def run(ctx, url: str, tries: int) -> str:
    return f"{ctx.task_id} {url} {tries}"
""",
        (({"url": "u", "tries": 2}, {"result": "task u 2"}),),
    ),
    "the context last": Shape(
        """
@handler("shape")
async def run(user_id: int, month: str, context: Context) -> str:
    return f"{context.task_id} {user_id} {month}"
""",
        (({"user_id": 1, "month": "x"}, {"result": "task 1 x"}),),
    ),
    "one number and the context": Shape(
        """
@handler("shape")
async def run(user_id: int, context: Context) -> str:
    return f"{context.task_id} {user_id}"
""",
        (({"user_id": 1}, {"result": "task 1"}), ({}, Error(INVALID, "user_id"))),
    ),
    "a list and the context": Shape(
        """
@handler("shape")
async def run(symbols: list[str], context: Context) -> int:
    return len(symbols)
""",
        (({"symbols": ["A", "B"]}, {"result": 2}),),
    ),
    "the context by keyword": Shape(
        """
@handler("shape")
async def run(user_id: int, *, context: Context) -> str:
    return f"{context.task_id} {user_id}"
""",
        (({"user_id": 1}, {"result": "task 1"}),),
    ),
    "the context alone": Shape(
        """
@handler("shape")
async def run(context: Context) -> str:
    return context.task_id
""",
        (({}, {"result": "task"}), ({"a": 1}, {"result": "task"})),
    ),
    "nothing at all": Shape(
        """
@handler("shape")
async def run() -> None:
    pass
""",
        (({}, {"result": None}), ({"a": 1}, {"result": None})),
    ),
    "whatever else by keyword": Shape(
        """
@handler("shape")
async def run(user_id: int, **more: int) -> dict[str, Any]:
    return {"user": user_id, "more": more}
""",
        (
            ({"user_id": 1, "a": 2}, {"user": 1, "more": {"a": 2}}),
            ({"user_id": 1}, {"user": 1, "more": {}}),
            ({"user_id": 1, "a": "x"}, Error(INVALID, "args.a")),
        ),
    ),
    "two objects": Shape(
        """
@handler("shape")
async def run(order: Order, report: ReportArgs) -> str:
    return f"{order.symbol} {report.user_id}"
""",
        (
            ({"order": {"symbol": "A"}, "report": {"user_id": 1}}, {"result": "A 1"}),
            ({"order": {"symbol": "A"}, "report": {}}, Error(INVALID, "args.report")),
        ),
    ),
    "names that aworker has uses for": Shape(
        """
@handler("shape")
async def run(args: list[int], client: str, task_id: str, self_: int = 0, function: str = "f") -> list[Any]:
    return [args, client, task_id, function]
""",
        (({"args": [1], "client": "c", "task_id": "t"}, {"result": [[1], "c", "t", "f"]}),),
    ),
    "types with a text of their own": Shape(
        """
@handler("shape")
async def run(side: Side, day: datetime.date, price: decimal.Decimal, key: uuid.UUID, at: datetime.datetime,
              mode: Literal["fast", "slow"], pair: tuple[int, str], raw: bytes, few: set[int]) -> list[Any]:
    return [side, day, price, key, at.tzinfo is not None, mode, pair, raw.decode(), sorted(few)]
""",
        (
            (
                {
                    "side": "buy",
                    "day": "2026-01-02",
                    "price": "1.10",
                    "key": "00000000-0000-0000-0000-000000000001",
                    "at": "2026-01-02T03:04:05Z",
                    "mode": "fast",
                    "pair": [1, "a"],
                    "raw": "YWI=",
                    "few": [2, 1, 2],
                },
                {
                    "result": [
                        "buy",
                        "2026-01-02",
                        "1.10",
                        "00000000-0000-0000-0000-000000000001",
                        True,
                        "fast",
                        [1, "a"],
                        "ab",
                        [1, 2],
                    ]
                },
            ),
            ({"side": "hold"}, Error(INVALID)),
        ),
    ),
    "a bound": Shape(
        """
@handler("shape")
async def run(limit: Annotated[int, msgspec.Meta(ge=1, le=10)]) -> int:
    return limit
""",
        (({"limit": 10}, {"result": 10}), ({"limit": 0}, Error(INVALID, "args.limit"))),
    ),
    "one model among others": Shape(
        """
@handler("shape")
async def run(model: Model, times: int = 1) -> dict[str, Any]:
    return {"user": model.fields["user_id"], "times": times}
""",
        (({"model": {"user_id": 1}}, {"user": 1, "times": 1}), ({"model": {}}, Error(INVALID, "Field required"))),
    ),
    "annotations as text": Shape(
        FUTURE
        + HEAD
        + """
@handler("shape")
async def run(context: Context, report: ReportArgs, side: Side = Side.BUY) -> Side:
    return side
""",
        (({"report": {"user_id": 1}, "side": "sell"}, {"result": "sell"}),),
    ),
    "annotations as text of what stands in a function": Shape(
        FUTURE
        + HEAD
        + """
def make():
    class Local(msgspec.Struct):
        a: int

    @handler("shape")
    async def run(args: Local, context: Context) -> int:
        return args.a

    return run

run = make()
""",
        (({"a": 4}, {"result": 4}), ({}, Error(INVALID, "a"))),
    ),
    "a returned type that is not there at run time": Shape(
        FUTURE
        + HEAD
        + """
@handler("shape")
async def run(args: ReportArgs, context: Context) -> NotHere:
    return args.user_id
""",
        (({"user_id": 1}, {"result": 1}),),
    ),
    "a context that is imported for type checkers alone": Shape(
        """from __future__ import annotations
from typing import TYPE_CHECKING
from aworker import handler
if TYPE_CHECKING:
    import aworker
    from aworker import Context

@handler("shape")
async def other(c: aworker.Context, user_id: int) -> str:
    return f"{c.task_id} {user_id}"

@handler("shape")
async def run(user_id: int, context: Context) -> list[str]:
    return [f"{context.task_id} {user_id}", await other(context, 2)]
""",
        (({"user_id": 1}, {"result": ["task 1", "task 2"]}),),
    ),
    # Functions of other kinds.
    "a plain function": Shape(
        """
@handler("shape")
def run(user_id: int, context: Context) -> str:
    return f"{context.task_id} {user_id}"
""",
        (({"user_id": 1}, {"result": "task 1"}), ({"user_id": None}, Error(INVALID, "args.user_id"))),
    ),
    "a plain function that runs a loop of its own": Shape(
        """
@handler("shape")
def run(user_id: int) -> int:
    async def inner():
        return user_id + 1
    return asyncio.run(inner())
""",
        (({"user_id": 1}, {"result": 2}),),
    ),
    "a partial": Shape(
        """
async def send(url: str, *, scale: int, context: Context) -> str:
    return f"{url} {scale} {context.task_id}"

run = handler("shape")(functools.partial(send, scale=3))
""",
        (({"url": "u"}, {"result": "u 3 task"}),),
    ),
    "a bound method": Shape(
        """
class Mailer:
    def __init__(self, host):
        self.host = host

    async def send(self, to: str) -> str:
        return f"{self.host} {to}"

run = handler("shape")(Mailer("h").send)
""",
        (({"to": "t"}, {"result": "h t"}),),
    ),
    "an object that can be called": Shape(
        """
class Mailer:
    async def __call__(self, to: str, context: Context) -> str:
        return f"{context.task_id} {to}"

run = handler("shape")(Mailer())
""",
        (({"to": "t"}, {"result": "task t"}),),
    ),
    "a static method": Shape(
        """
class Mail:
    @staticmethod
    @handler("shape")
    async def send(to: str) -> str:
        return to

run = Mail.send
""",
        (({"to": "t"}, {"result": "t"}),),
    ),
    "a static method the other way round": Shape(
        """
class Mail:
    @handler("shape")
    @staticmethod
    async def send(to: str) -> str:
        return to

run = Mail.send
""",
        (({"to": "t"}, {"result": "t"}),),
    ),
    "a decorator of the user's own below": Shape(
        """
def loudly(function):
    @functools.wraps(function)
    async def inner(*args, **kwargs):
        return (await function(*args, **kwargs)).upper()
    return inner

@handler("shape")
@loudly
async def run(context: Context, to: str) -> str:
    return to
""",
        (({"to": "t"}, {"result": "T"}),),
    ),
    "a decorator that is no coroutine": Shape(
        """
def noted(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

@handler("shape")
@noted
async def run(args: ReportArgs, context: Context) -> int:
    return args.user_id
""",
        (({"user_id": 1}, {"result": 1}),),
    ),
    "a decorator that forgets the signature": Shape(
        """
def noted(function):
    async def inner(*args, **kwargs):
        return await function(*args, **kwargs)
    return inner

@handler("shape")
@noted
async def run(args: dict, context: Context) -> int:
    return args["user_id"]
""",
        (({"user_id": 1}, {"result": 1}),),
    ),
    # What becomes of the end.
    "a retry": Shape(
        """
@handler("shape")
async def run(user_id: int) -> int | Retry:
    return Retry(5, "not yet")
""",
        (({"user_id": 1}, Error("Retry", "not yet")),),
    ),
    "an exception": Shape(
        """
@handler("shape")
async def run(user_id: int) -> float:
    return 1 / user_id
""",
        (({"user_id": 0}, Error("ZeroDivisionError", "division")), ({"user_id": 2}, {"result": 0.5})),
    ),
    "a declined request": Shape(
        """
class NoSuchUser(RequestDeclined):
    pass

@handler("shape")
def run(user_id: int) -> None:
    raise NoSuchUser(f"there is no user {user_id}")
""",
        (({"user_id": 7}, Error("NoSuchUser", "there is no user 7")),),
    ),
    "a result that is nothing": Shape(
        """
@handler("shape")
async def run() -> Any:
    return object()
""",
        (({}, Error("ResultInvalid", "object")),),
    ),
    # What cannot be a handler.
    "a generator": Shape(
        """
@handler("shape")
def run(user_id: int):
    yield user_id
""",
        refused="generator",
    ),
    "an asynchronous generator": Shape(
        """
@handler("shape")
async def run(user_id: int):
    yield user_id
""",
        refused="generator",
    ),
    "more positions": Shape(
        """
@handler("shape")
async def run(user_id: int, *symbols: str) -> None: ...
""",
        refused=r"\*symbols",
    ),
    "a method": Shape(
        """
class Mail:
    @handler("shape")
    async def send(self, to: str) -> str:
        return to
""",
        refused="method",
    ),
    "a class": Shape(
        """
@handler("shape")
class Mail:
    def __init__(self, to: str) -> None: ...
""",
        refused="class",
    ),
    "no function": Shape(
        """
run = handler("shape")("mail")
""",
        refused="function",
    ),
    "no name": Shape(
        """
@handler
async def run(user_id: int) -> None: ...
""",
        refused="task_type",
    ),
    "an empty name": Shape(
        """
@handler("")
async def run(user_id: int) -> None: ...
""",
        refused="task_type",
    ),
    "an argument's type that is not there at run time": Shape(
        FUTURE
        + HEAD
        + """
@handler("shape")
async def run(user: NotHere, month: str) -> None: ...
""",
        refused="NotHere",
    ),
    "types that JSON cannot tell apart": Shape(
        """
@handler("shape")
async def run(ids: list[int] | set[int]) -> None: ...
""",
        refused="ids",
    ),
}
