"""The language model's client against a real HTTP server in the same loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from aworker.config import LlmConfig
from aworker.trading.strategies.llm import MAX_ANSWER_BYTES, LanguageModel, LanguageModelFailed, answer_schema
from aworker.trading.strategies.strategy import Draft, Risk, Rules

GOOD = (
    '{"name": "Dips", "description": "Buys dips", '
    '"rules": {"entry": "rsi(close, 14) < 30", "risk": {"stop_loss": 0.05}}}'
)
BAD_RULE = '{"name": "Dips", "description": "", "rules": {"entry": "rsi(clos, 14) < 30"}}'
BAD_RISK = '{"name": "Dips", "description": "", "rules": {"entry": "close > open", "risk": {"stop_loss": 5}}}'
ANSWER = f'{{"strategy": {GOOD}, "assumptions": ["dips: RSI below 30"], "cannot": null}}'

Answer = tuple[int, bytes] | tuple[int, bytes, str]


class Server:
    """Answers each request with the next of its answers and remembers what it was asked.

    An answer is a status (0: the connection is cut, -1: nothing is answered), a body, and further headers.
    """

    def __init__(self, *answers: Answer) -> None:
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
                status, body, *more = self.answers.pop(0)
                if status == 0:
                    break
                if status == -1:
                    await reader.read()
                    break
                added = "".join(f"{line}\r\n" for line in more)
                writer.write(f"HTTP/1.1 {status} x\r\n{added}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(*answers: Answer) -> AsyncIterator[Server]:
    server = Server(*answers)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listener:
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        yield server


def completion(content: str | None, tokens: int | None = 100, **choice: Any) -> tuple[int, bytes]:
    message = {"role": "assistant", "content": content, **choice.pop("message", {})}
    usage = {} if tokens is None else {"usage": {"total_tokens": tokens}}
    return 200, msgspec.json.encode({"id": "x", "choices": [{"index": 0, "message": message, **choice}], **usage})


ATTEMPTS = 4


def model_of(server: Server, waits: list[float] | None = None, **settings: Any) -> LanguageModel:
    async def sleep(wait_s: float) -> None:
        if waits is not None:
            waits.append(wait_s)

    known = {"api_key_env": "AWORKER_TEST_KEY", "max_attempts": ATTEMPTS, "request_timeout_s": 5.0, **settings}
    return LanguageModel(LlmConfig(base_url=server.url, model="small", **known), sleep=sleep)


async def test_a_good_answer_becomes_a_checked_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWORKER_TEST_KEY", "secret-1")
    async with serving(completion(ANSWER)) as server:
        made = await model_of(server).draft("buy dips", understood="nothing of it")

    assert made.draft == Draft("Dips", "Buys dips", Rules("rsi(close, 14) < 30", risk=Risk(stop_loss=0.05)))
    assert (made.assumptions, made.model, made.attempts, made.tokens) == (("dips: RSI below 30",), "small", 1, 100)
    assert server.headers[0]["path"].startswith("POST /v1/chat/completions ")
    assert server.headers[0]["authorization"] == "Bearer secret-1"
    body = server.bodies[0]
    assert (body["model"], body["response_format"]["type"]) == ("small", "json_schema")
    assert "rsi(series, window=14)" in body["messages"][0]["content"]
    assert "buy dips" in body["messages"][1]["content"]
    assert "nothing of it" in body["messages"][1]["content"]
    assert "secret-1" not in str(body)


def test_the_schema_is_strict() -> None:
    def objects(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, list):
            return [found for each in node for found in objects(each)]
        if not isinstance(node, dict):
            return []
        own = [node] if "properties" in node else []
        return own + [found for each in node.values() for found in objects(each)]

    found = objects(answer_schema())

    assert len(found) == 6
    assert all(node["additionalProperties"] is False for node in found)
    assert all(node["required"] == list(node["properties"]) for node in found)
    assert "default" not in str(answer_schema())


async def test_without_a_key_no_header_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWORKER_TEST_KEY", raising=False)
    async with serving(completion(ANSWER)) as server:
        await model_of(server).draft("buy dips")

    assert "authorization" not in server.headers[0]


@pytest.mark.parametrize(
    "wrapped",
    [f"Here you are:\n```json\n{ANSWER}\n```\nGood luck", f"  {ANSWER}", GOOD],
    ids=["fence", "space", "bare"],
)
async def test_the_object_is_found_between_words(wrapped: str) -> None:
    async with serving(completion(wrapped)) as server:
        made = await model_of(server).draft("buy dips")

    assert made.draft.name == "Dips"


async def test_errors_go_back_for_repair() -> None:
    said: list[str] = []
    async with serving(completion(BAD_RULE), completion(BAD_RISK), completion(ANSWER)) as server:
        made = await model_of(server).draft("buy dips", say=said.append)

    assert (made.draft.name, made.attempts, made.tokens) == ("Dips", 3, 300)
    second, third = (body["messages"][-1]["content"] for body in server.bodies[1:])
    assert "did you mean close?" in second
    assert "$.rules.risk.stop_loss" in third
    assert server.bodies[1]["messages"][-2] == {"role": "assistant", "content": BAD_RULE}
    assert len(server.bodies[2]["messages"]) == 4
    assert said[0] == "asking the language model"
    assert "did you mean close?" in said[1]


async def test_repair_ends_with_its_attempts() -> None:
    async with serving(*[completion(BAD_RULE)] * ATTEMPTS) as server:
        with pytest.raises(LanguageModelFailed, match=r"did not \(4 attempts, 400 tokens\); .*did you mean close"):
            await model_of(server).draft("buy dips")

    assert len(server.bodies) == ATTEMPTS


async def test_repair_ends_with_its_tokens() -> None:
    async with serving(*[completion(BAD_RULE, tokens=600)] * ATTEMPTS) as server:
        with pytest.raises(LanguageModelFailed, match=r"2 attempts, 1,200 tokens"):
            await model_of(server, max_tokens=1000).draft("buy dips")

    assert [body["max_tokens"] for body in server.bodies] == [1000, 400]


@pytest.mark.parametrize(
    "content",
    [
        "",
        None,
        "no",
        "[1]",
        "{}",
        "[" * 50_000,
        '{"name": "x", "description": "", "rules": {"entry": "__import__(1)"}}',
        '{"strategy": {"name": "a\\u0000b", "description": "", "rules": {"entry": "close > open"}}}',
        '{"strategy": null, "assumptions": [], "cannot": ""}',
    ],
)
async def test_whatever_comes_back_passes_the_same_checks(content: str | None) -> None:
    async with serving(*[completion(content)] * ATTEMPTS) as server:
        with pytest.raises(LanguageModelFailed, match="must answer with a valid strategy"):
            await model_of(server).draft("buy dips")


async def test_foreign_text_is_made_printable() -> None:
    hostile = '{"name": "Dips", "description": "a\\u001b[31m\\nb", "rules": {"entry": "close > open"}}'
    many = msgspec.json.encode(["x\x07y", *["z" * 999] * 30]).decode()
    answer = f'{{"strategy": {hostile}, "assumptions": {many}}}'
    async with serving(completion(answer)) as server:
        made = await model_of(server).draft("buy dips")

    assert made.draft.description == "a [31m b"
    assert made.assumptions[0] == "x y"
    assert (len(made.assumptions), max(map(len, made.assumptions))) == (20, 300)


@pytest.mark.parametrize(
    "prompt, rules, assumptions, missing",
    [
        ("RSI 21 under 30", '"rsi(close, 21) < 30"', [], None),
        ("RSI 21 under 30", '"rsi(close, 14) < 30"', [], "21"),
        ("RSI 21 under 30", '"rsi(close, 14) < 30"', ["21 days: left at the usual 14"], None),
        ("up 3% on 2 million shares", '"close > 1.03 * lag(close, 1) and volume > 2000000"', [], None),
        ("up 3% on 2 million shares", '"percent_change(close, 1) > 3 and volume > 2"', [], "2 million"),
        ("down 4% over 2 weeks", '"close < 0.96 * lag(close, 10)"', [], "2"),
        ("down 4% over 2 weeks", '"close < 0.96 * lag(close, 10)"', ["2 weeks: 10 bars"], None),
        ("volume over 1,500,000", '"volume > 1500000"', [], None),
    ],
)
async def test_every_number_of_the_prompt_is_found_again(
    prompt: str, rules: str, assumptions: list[str], missing: str | None
) -> None:
    draft = f'{{"name": "Dips", "description": "", "rules": {{"entry": {rules}}}}}'
    first = f'{{"strategy": {draft}, "assumptions": {msgspec.json.encode(assumptions).decode()}, "cannot": null}}'
    async with serving(completion(first), completion('{"strategy": null, "cannot": "enough"}')) as server:
        if missing is None:
            await model_of(server).draft(prompt)
        else:
            with pytest.raises(LanguageModelFailed, match="enough"):
                await model_of(server).draft(prompt)
            assert f"{missing} of the words stands neither" in server.bodies[1]["messages"][-1]["content"]


async def test_numbers_of_the_strategy_that_is_edited_count() -> None:
    current = Draft("Mine", "", Rules("rsi(close, 20) < 30"))
    edited = '{"strategy": {"name": "Mine", "description": "", "rules": {"entry": "rsi(close, 10) < 30"}}}'
    async with serving(completion(edited)) as server:
        made = await model_of(server).draft("use the 10 instead of the 20", current)

    assert made.draft.rules.entry == "rsi(close, 10) < 30"
    assert '"entry":"rsi(close, 20) < 30"' in server.bodies[0]["messages"][1]["content"]


@pytest.mark.parametrize(
    "answer, reason",
    [
        (
            completion('{"strategy": null, "cannot": "short selling\\u0007"}'),
            "must be a strategy .* not; short selling$",
        ),
        (completion(None, message={"refusal": "I cannot help"}), "refused by the model: I cannot help"),
        (completion("", finish_reason="content_filter"), "refused by the model: content filter"),
    ],
    ids=["cannot", "refusal", "filter"],
)
async def test_a_refusal_is_the_reason_and_asked_once(answer: Answer, reason: str) -> None:
    async with serving(answer) as server:
        with pytest.raises(LanguageModelFailed, match=reason):
            await model_of(server).draft("short the top")

    assert len(server.bodies) == 1


async def test_an_answer_that_was_cut_off_is_asked_for_again() -> None:
    async with serving(completion(ANSWER[:50], finish_reason="length"), completion(ANSWER)) as server:
        made = await model_of(server).draft("buy dips")

    assert made.attempts == 2
    assert "cut off" in server.bodies[1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    "first, waited",
    [
        ((503, b"busy"), [1.0]),
        ((429, b"slow down", "Retry-After: 7"), [7.0]),
        ((0, b""), [1.0]),
        ((200, b'{"choices": []}'), [1.0]),
    ],
    ids=["503", "429", "cut", "empty"],
)
async def test_a_passing_failure_is_tried_again_after_the_wait_it_asks_for(first: Answer, waited: list[float]) -> None:
    waits: list[float] = []
    async with serving(first, completion(ANSWER)) as server:
        made = await model_of(server, waits).draft("buy dips")

    assert (made.draft.name, made.attempts) == ("Dips", 2)
    assert waits == waited


async def test_waits_grow() -> None:
    waits: list[float] = []
    async with serving(*[(503, b"busy")] * ATTEMPTS) as server:
        with pytest.raises(LanguageModelFailed, match="status 503: busy, 4 attempts"):
            await model_of(server, waits).draft("buy dips")

    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("when", ["3600", "Wed, 01 Jan 2200 00:00:00 GMT"], ids=["seconds", "date"])
async def test_a_wait_beyond_the_budget_is_not_waited_for(when: str) -> None:
    waits: list[float] = []
    async with serving((429, b"quota", f"Retry-After: {when}")) as server:
        with pytest.raises(
            LanguageModelFailed, match=r"status 429: quota, asked to wait \d+ s, longer than llm.budget_s"
        ):
            await model_of(server, waits).draft("buy dips")

    assert waits == []


async def test_a_server_without_schemas_is_asked_without() -> None:
    refused = (400, b'{"error": {"message": "response_format json_schema is not supported"}}')
    async with serving(refused, completion(GOOD), completion(GOOD)) as server:
        model = model_of(server)
        await model.draft("buy dips")
        await model.draft("buy dips")

    assert ["response_format" in body for body in server.bodies] == [True, False, False]


@pytest.mark.parametrize("settings", [{"request_timeout_s": 0.05}, {"budget_s": 0.2}], ids=["request", "budget"])
async def test_silence_ends_in_time(settings: dict[str, Any]) -> None:
    async with serving(*[(-1, b"")] * ATTEMPTS) as server:
        silence = r"(Read|Connect)Timeout.*4 attempts|within 0.2 s .*1 attempt, 0 tokens"
        with pytest.raises(LanguageModelFailed, match=silence):
            await model_of(server, **settings).draft("buy dips")


@pytest.mark.parametrize(
    "answers, reason",
    [
        ([(401, b"bad key secret-1")], r"status 401: bad key \*\*\*"),
        ([(500, b"down secret-1")] * ATTEMPTS, r"status 500: down \*\*\*, 4 attempts"),
        ([(0, b"")] * ATTEMPTS, "RemoteProtocolError"),
        ([(200, b"<html>")], "no chat completion"),
        ([(200, b'{"choices": []}')] * ATTEMPTS, "a completion without a choice"),
        ([(200, b"x" * (MAX_ANSWER_BYTES + 1))], "more than 1,048,576 bytes"),
    ],
    ids=["key", "down", "cut", "html", "empty", "huge"],
)
async def test_what_is_no_completion_fails_in_words_without_the_key(
    monkeypatch: pytest.MonkeyPatch, answers: list[Answer], reason: str
) -> None:
    monkeypatch.setenv("AWORKER_TEST_KEY", "secret-1")
    async with serving(*answers) as server:
        with pytest.raises(LanguageModelFailed, match=reason) as caught:
            await model_of(server).draft("buy dips")

    assert "secret-1" not in str(caught.value)


async def test_an_endpoint_that_is_away_fails_in_words(unused_tcp_port_factory: Callable[[], int]) -> None:
    async with serving() as server:
        server.url = f"http://127.0.0.1:{unused_tcp_port_factory()}/v1"
        with pytest.raises(LanguageModelFailed, match="ConnectError"):
            await model_of(server).draft("buy dips")
