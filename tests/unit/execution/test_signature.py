"""Handlers as people write them: what each takes, gives and costs; see `tests.kit.handler_shapes`."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import types
from typing import Any

import msgspec
import pytest
from loguru import logger

from aworker.declaring import TypedHandler
from aworker.encoding import as_object
from aworker.errors import ConfigError
from aworker.execution.context import Context
from aworker.execution.registry import Handler
from aworker.execution.retry import Retry
from tests.kit.handler_shapes import HEAD, SHAPES, Error, Shape


def loaded(shape: Shape) -> TypedHandler[Any, Any, Any, Any]:
    module = types.ModuleType("handler_shape")
    sys.modules["handler_shape"] = module
    source = shape.source if shape.source.startswith("from __future__") else HEAD + shape.source
    exec(compile(source, "handler_shape", "exec"), module.__dict__)
    return module.run  # type: ignore[no-any-return]


def context() -> Context:
    return Context(
        task_id="task",
        task_type="shape",
        delivery=1,
        lease_id=1,
        logger=logger,
        progress=lambda *_: None,
        is_cancelled=lambda: False,
    )


def given(handler: Handler, args: dict[str, Any]) -> Any:
    result = handler.invoke(args, context())
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    if isinstance(result, Retry):
        raise result
    return msgspec.json.decode(msgspec.json.encode(as_object(result)))


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if not shape.refused])
def test_a_handler_takes_a_tasks_args_as_its_author_meant(name: str) -> None:
    handler = loaded(SHAPES[name])

    for args, wanted in SHAPES[name].answers:
        if isinstance(wanted, Error):
            with pytest.raises(BaseException, match=re.escape(wanted.words) or None) as raised:
                given(handler, args)
            assert type(raised.value).__name__ == wanted.error_type
        else:
            assert given(handler, args) == wanted


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape.refused])
def test_what_cannot_be_a_handler_is_refused_where_it_is_declared(name: str) -> None:
    with pytest.raises(ConfigError, match=SHAPES[name].refused):
        loaded(SHAPES[name])


class Pool:
    pass


def test_what_no_task_can_hold_is_injected_and_no_field() -> None:
    async def whole(args: dict[str, Any], context: Context, pool: Pool, scale: int = 2) -> Any:
        return [pool, scale]

    async def names(user_id: int, pool: Pool) -> Any:
        return [user_id, pool]

    signatures = [Handler("work", function).signature for function in (whole, names)]

    assert [one.injected for one in signatures] == [{"pool": Pool}, {"pool": Pool}]
    assert signatures[1].fields == {"user_id"}
    pool = Pool()
    assert asyncio.run(signatures[0].invoke({}, context(), {"pool": pool})) == [pool, 2]
    assert asyncio.run(signatures[1].invoke(signatures[1].convert({"user_id": 1}), context(), {"pool": pool})) == [
        1,
        pool,
    ]
    with pytest.raises(ConfigError, match="parameter pool of handler work must be given by the worker's lifespan"):
        signatures[0].invoke({}, context())
