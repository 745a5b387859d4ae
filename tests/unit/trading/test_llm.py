"""The language model's client against a real HTTP server in the same loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from aworker.trading.strategies.llm import MAX_ANSWER_BYTES, MAX_REPAIRS, LanguageModel, LanguageModelFailed
from aworker.trading.strategies.strategy import Draft, Risk, Rules

GOOD = (
    '{"name": "Dips", "description": "Buys dips", '
    '"rules": {"entry": "rsi(close, 14) < 30", "risk": {"stop_loss": 0.05}}}'
)
BAD_RULE = '{"name": "Dips", "description": "", "rules": {"entry": "rsi(clos, 14) < 30"}}'
BAD_RISK = '{"name": "Dips", "description": "", "rules": {"entry": "close > open", "risk": {"stop_loss": 5}}}'


class Server:
    """Answers each request with the next of its answers and remembers what it was asked."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.answers = list(answers)
        self.headers: list[dict[str, str]] = []
        self.bodies: list[Any] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
                }
                self.headers.append({"path": head[0], **headers})
                self.bodies.append(msgspec.json.decode(await reader.readexactly(int(headers["content-length"]))))
                status, body = self.answers.pop(0)
                if status == 0:
                    break
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(*answers: tuple[int, bytes]) -> AsyncIterator[Server]:
    server = Server(*answers)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listener:
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        yield server


def completion(content: str | None) -> tuple[int, bytes]:
    return 200, msgspec.json.encode(
        {"id": "x", "choices": [{"index": 0, "message": {"role": "a", "content": content}}]}
    )


def model_of(server: Server) -> LanguageModel:
    return LanguageModel(server.url, "small", "AWORKER_TEST_KEY", request_timeout_s=5, retry_wait_s=0)


async def test_a_good_answer_becomes_a_checked_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWORKER_TEST_KEY", "secret-1")
    async with serving(completion(GOOD)) as server:
        draft = await model_of(server).draft("buy dips")

    assert draft == Draft("Dips", "Buys dips", Rules("rsi(close, 14) < 30", risk=Risk(stop_loss=0.05)))
    assert server.headers[0]["path"].startswith("POST /v1/chat/completions ")
    assert server.headers[0]["authorization"] == "Bearer secret-1"
    body = server.bodies[0]
    assert (body["model"], body["response_format"]["type"]) == ("small", "json_schema")
    assert "Rules" in str(body["response_format"]["json_schema"]["schema"])
    assert "rsi(series, window=14)" in body["messages"][0]["content"]
    assert "buy dips" in body["messages"][1]["content"]
    assert "secret-1" not in str(body)


async def test_without_a_key_no_header_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWORKER_TEST_KEY", raising=False)
    async with serving(completion(GOOD)) as server:
        await model_of(server).draft("buy dips")

    assert "authorization" not in server.headers[0]


@pytest.mark.parametrize("wrapped", [f"Here you are:\n```json\n{GOOD}\n```\nGood luck", f"  {GOOD}"])
async def test_the_object_is_found_between_words(wrapped: str) -> None:
    async with serving(completion(wrapped)) as server:
        draft = await model_of(server).draft("buy dips")

    assert draft.name == "Dips"


async def test_errors_go_back_for_repair() -> None:
    async with serving(completion(BAD_RULE), completion(BAD_RISK), completion(GOOD)) as server:
        draft = await model_of(server).draft("buy dips")

    assert draft.name == "Dips"
    second, third = (body["messages"][-1]["content"] for body in server.bodies[1:])
    assert "did you mean close?" in second
    assert "$.rules.risk.stop_loss" in third
    assert server.bodies[1]["messages"][-2] == {"role": "assistant", "content": BAD_RULE}


async def test_repair_ends_after_its_rounds() -> None:
    async with serving(*[completion(BAD_RULE)] * (1 + MAX_REPAIRS)) as server:
        with pytest.raises(LanguageModelFailed, match=r"did not in 3 answers; .*did you mean close"):
            await model_of(server).draft("buy dips")

    assert len(server.bodies) == 1 + MAX_REPAIRS


@pytest.mark.parametrize(
    "content",
    ["", "no", "[1]", "{}", "[" * 50_000, '{"name": "x", "description": "", "rules": {"entry": "__import__(1)"}}'],
)
async def test_whatever_comes_back_passes_the_same_checks(content: str) -> None:
    async with serving(*[completion(content)] * (1 + MAX_REPAIRS)) as server:
        with pytest.raises(LanguageModelFailed):
            await model_of(server).draft("buy dips")


async def test_a_refusal_is_the_reason() -> None:
    async with serving(completion('{"error": "short selling cannot be said"}')) as server:
        with pytest.raises(LanguageModelFailed, match="short selling cannot be said"):
            await model_of(server).draft("short the top")


async def test_an_edit_shows_the_current_strategy() -> None:
    current = Draft("Mine", "", Rules("close > open", symbols=("AAPL",)))
    async with serving(completion(GOOD)) as server:
        await model_of(server).draft("make it better", current)

    assert '"entry":"close > open"' in server.bodies[0]["messages"][1]["content"]


@pytest.mark.parametrize("first", [(503, b"busy"), (429, b"slow down"), (0, b"")], ids=["503", "429", "cut"])
async def test_a_passing_failure_is_tried_again_once(first: tuple[int, bytes]) -> None:
    async with serving(first, completion(GOOD)) as server:
        draft = await model_of(server).draft("buy dips")

    assert draft.name == "Dips"
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    "answers, reason",
    [
        ([(401, b"bad key secret-1")], r"status 401: bad key \*\*\*"),
        ([(500, b"x"), (500, b"down")], "status 500: down"),
        ([(0, b""), (0, b"")], "RemoteProtocolError"),
        ([(200, b"<html>")], "no chat completion"),
        ([(200, b'{"choices": []}')], "a completion without content"),
        ([(200, b"x" * (MAX_ANSWER_BYTES + 1))], "more than 1,048,576 bytes"),
    ],
    ids=["key", "down", "cut", "html", "empty", "huge"],
)
async def test_what_is_no_completion_fails_in_words_without_the_key(
    monkeypatch: pytest.MonkeyPatch, answers: list[tuple[int, bytes]], reason: str
) -> None:
    monkeypatch.setenv("AWORKER_TEST_KEY", "secret-1")
    async with serving(*answers) as server:
        with pytest.raises(LanguageModelFailed, match=reason) as caught:
            await model_of(server).draft("buy dips")

    assert "secret-1" not in str(caught.value)


async def test_an_endpoint_that_is_away_fails_in_words(unused_tcp_port_factory: Callable[[], int]) -> None:
    model = LanguageModel(f"http://127.0.0.1:{unused_tcp_port_factory()}/v1", "small", retry_wait_s=0)

    with pytest.raises(LanguageModelFailed, match="ConnectError"):
        await model.draft("buy dips")
