"""Lines as libraries and people write them; what is secret in them is written as *** and nothing else is."""

from __future__ import annotations

import msgspec
import pytest

from aworker.config import Config, HttpConfig, LlmConfig, RedisConfig
from aworker.logs.secrets import Secrets, known_secrets

SECRET = "hunter2-Zx81"
LINES = [
    "redis.exceptions.ConnectionError: Error 111 connecting to redis://worker:{}@10.0.0.5:6379/0.",
    "connecting to redis://:{}@cache.internal:6380",
    "sqlalchemy.exc.OperationalError: postgresql+psycopg://app:{}@db:5432/prod refused",
    "amqp://guest:{}@rabbit//vhost",
    'HTTP Request: GET https://api.example.com/v1/bars?symbol=AAPL&apikey={} "HTTP/1.1 200 OK"',
    "HTTP Request: GET https://api.polygon.io/v2/aggs?apiKey={}&limit=5",
    "https://www.alphavantage.co/query?function=TIME_SERIES_DAILY&access_key={}",
    "GET /ws?token={} 101",
    "headers={{'Authorization': 'Bearer {}', 'Accept': '*/*'}}",
    'request: {{"authorization": "Basic {}"}}',
    "> Authorization: Bearer {}",
    "Authorization: {}",
    "APCA-API-SECRET-KEY: {}",
    "api_key={}",
    "API_KEY = '{}'",
    "api-key: {}, retrying",
    '{{"api_key": "{}", "symbol": "AAPL"}}',
    "{{'password': '{}', 'user': 'bob'}}",
    "password={};Server=db",
    "PGPASSWORD={} pg_dump failed with 1",
    "client_secret={}&grant_type=client_credentials",
    "OPENAI_API_KEY={} is not accepted",
    "AWS_SECRET_ACCESS_KEY={}",
    "refresh_token: {}",
    'payload was "{{\\"access_token\\":\\"{}\\",\\"expires_in\\":3600}}"',
    "db.pwd={}",
    "https://user:{}@proxy.local:3128 answered 407",
]
BY_LOOK = [
    "Incorrect API key provided: sk-proj-abcDEF1234567890abcDEF. You can find your API key at https://platform.openai.com",
    "remote: Invalid token ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "posting to slack with xoxb-123456789012-abcdefABCDEF failed",
    "The AWS Access Key Id AKIAIOSFODNN7EXAMPLE does not exist",
    "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P expired",
]
HARMLESS = [
    "Processing create_strategy task abc123 from priority queue",
    "Failed backtest task task-123 from normal queue after 3.1s: ValueError: no bars for AAPL",
    "llm.max_tokens must be >= 256, was 3; correct it",
    "http.token_env must name a variable that is set, was 'AWORKER_PAGE_TOKEN'; set it",
    "The page is at http://127.0.0.1:9464/; metrics and health at /metrics, /livez, /readyz",
    "Redis at 10.0.0.5:6379/0 is unavailable: Connection refused; trying again until it is back",
    "KeyError: 'close'",
    "the key aworker:dead must be a stream",
    "used 1,203 tokens of 20,000",
    "asked https://example.org/a:b/c for a@b.example",
    "basic authentication is not supported",
    "a bearer of news",
    "From the page, by 127.0.0.1: a wrong token",
    "monkey = 3, turkey: 4",
    "sk-1 and task-sk-2 are done",
]


@pytest.mark.parametrize("line", LINES)
def test_a_secret_is_not_written(line: str) -> None:
    written = Secrets().out_of(line.format(SECRET))

    assert SECRET not in written
    assert "***" in written
    for word in line.replace("{{", "{").replace("}}", "}").split("{}")[0].split()[:2]:
        assert word in written


@pytest.mark.parametrize("line", BY_LOOK)
def test_a_key_is_known_by_its_look(line: str) -> None:
    written = Secrets().out_of(line)

    assert written.count("***") == 1
    assert not any(word in written for word in ("abcDEF", "ghp_", "xoxb", "EXAMPLE", "eyJ"))
    assert written.split()[0] == line.split()[0]


@pytest.mark.parametrize("line", HARMLESS)
def test_other_words_stay(line: str) -> None:
    assert Secrets().out_of(line) == line


def test_known_values_are_found_wherever_they_stand() -> None:
    config = msgspec.structs.replace(
        Config(),
        redis=RedisConfig(url="redis://:p%40ss-word1@h:1"),
        http=HttpConfig(token_env="PAGE"),
        llm=LlmConfig(api_key_env="LLM"),
    )
    secrets = Secrets(known_secrets(config, {"PAGE": "open-sesame", "LLM": "key-of-model", "OTHER": "free-word"}))

    written = secrets.out_of("p@ss-word1, p%40ss-word1, (open-sesame), xkey-of-modelx, free-word")

    assert written == "***, ***, (***), x***x, free-word"


def test_short_values_are_no_secrets() -> None:
    assert Secrets(("task",)).out_of("a task") == "a task"


def test_what_is_bound_is_looked_through() -> None:
    bound = {"url": "redis://u:pw-123@h", "headers": [{"Authorization": "x y", "n": 3}], "api_key": "abc", "why": None}

    assert Secrets().out_of_values(bound) == {
        "url": "redis://u:***@h",
        "headers": [{"Authorization": "***", "n": 3}],
        "api_key": "***",
        "why": None,
    }
