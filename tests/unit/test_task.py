import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aworker.errors import PayloadInvalid
from aworker.task import Task, decode_task, salvage_identity

MOST = 1_048_576
MISSION = (
    b'{"task_id":"create_strategy_123456","task_type":"create_strategy",'
    b'"args":{"user_id":1,"prompt":"Create momentum strategy","strategy_id":-1},'
    b'"created_at":"2024-01-01T12:00:00Z","priority":"high"}'
)


def test_the_missions_own_task_is_read_whole() -> None:
    task = decode_task(MISSION, MOST)

    assert task == Task(
        "create_strategy_123456",
        "create_strategy",
        {"user_id": 1, "prompt": "Create momentum strategy", "strategy_id": -1},
        "2024-01-01T12:00:00Z",
        "high",
    )
    assert task.created_at_s == 1704110400.0
    assert task.user_id == "1"


def test_what_is_optional_may_be_absent_or_null() -> None:
    bare = decode_task(b'{"task_id":"a","task_type":"t"}', MOST)
    null = decode_task(b'{"task_id":"a","task_type":"t","args":null,"created_at":null,"priority":null}', MOST)

    assert bare == null == Task("a", "t", {}, None, "normal")


def test_a_key_inside_args_does_not_stand_for_the_top_level_one() -> None:
    text = b'{"args":{"task_id":"inner","task_type":"inner"},"task_id":"outer","task_type":"t","zzz":[1]}'

    assert decode_task(text, MOST).task_id == "outer"


TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        (f'"00-{TRACE}-b7ad6b7169203331-01"', TRACE),
        (f'"00-{TRACE}-b7ad6b7169203331-00"', TRACE),
        (f'"cc-{TRACE}-b7ad6b7169203331-01-what-the-future-will-be-like"', TRACE),
        (f'"00-{TRACE}-b7ad6b7169203331-01-more"', None),
        (f'"ff-{TRACE}-b7ad6b7169203331-01"', None),
        (f'"00-{TRACE.upper()}-b7ad6b7169203331-01"', None),
        (f'"00-{"0" * 32}-b7ad6b7169203331-01"', None),
        (f'"00-{TRACE}-{"0" * 16}-01"', None),
        (f'"00-{TRACE}-b7ad6b7169203331-01\\n"', None),
        (f'"00-{TRACE}"', None),
        ('""', None),
        ("null", None),
        ("7", None),
        ("1e999", None),
        ('{"a": [1]}', None),
    ],
)
def test_a_trace_is_read_where_it_is_one_and_never_bad_input(traceparent: str, trace_id: str | None) -> None:
    payload = f'{{"task_id":"a","task_type":"t","traceparent":{traceparent},"tracestate":"rojo=1"}}'

    task = decode_task(payload.encode(), MOST)

    assert task.trace_id == trace_id
    assert task.tracestate == (None if trace_id is None else "rojo=1")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "payload must be a JSON object, was empty"),
        (b"hello", "payload must be one JSON object, was not"),
        (b"3", "payload must be object, was 3"),
        (b"null", "payload must be object, was null"),
        (b"[]", "payload must be object, was []"),
        (b'{"task_type":"t"}', "task_id must be a non-empty string, was missing"),
        (b'{"task_id":7,"task_type":"t"}', "task_id must be str, was 7"),
        (b'{"task_id":"","task_type":"t"}', "task_id must be a non-empty string, was ''"),
        (b'{"task_id":"a","task_type":""}', "task_type must be a non-empty string, was ''"),
        (b'{"task_id":"a","task_type":"t","args":[1]}', r"args must be object \| null, was \[1\]"),
        (b"[" * 100_000, "payload must"),
        (b'{"task_id":"a","task_type":"t","x":' + b"[" * 100_000, "payload must"),
        (b'{"task_id":"a\x00","task_type":"t"}', "payload must be one JSON object"),
        (b'{"task_id":"a","task_type":"t","x":"\xff"}', "payload must be UTF-8, was not at byte 36"),
        (b'{"task_id":"a","task_type":"t","args":{"x":1e999}}', "a number that a double can hold"),
        (b'{"task_id":"\\ud800","task_type":"t"}', "payload must"),
        (b'{"task_id":"a","task_type":"t"}{}', "payload must be one JSON object"),
        (b'{"task_id":"a","task_type":"t","args":{"p":"' + b"x" * MOST + b'"}}', "payload must be <= 1048576 bytes"),
    ],
)
def test_bad_payloads_are_refused_with_field_rule_and_value(payload: bytes, words: str) -> None:
    with pytest.raises(PayloadInvalid, match=words.replace("[]", r"\[\]")):
        decode_task(payload, MOST)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_task_or_payload_invalid(payload: bytes) -> None:
    try:
        task = decode_task(payload, MOST)
    except PayloadInvalid:
        return
    assert task.task_id


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_json_gives_a_task_or_payload_invalid(value: object) -> None:
    for text in (json.dumps(value), json.dumps({"task_id": value, "task_type": "t", "args": value})):
        try:
            decode_task(text.encode("utf-8", "surrogatepass"), MOST)
        except PayloadInvalid:
            continue


def test_the_identity_of_a_refused_task_is_salvaged() -> None:
    too_large = b'{"args":{"p":"' + b"x" * 2_000 + b'"},"priority":"high","task_id":"big","task_type":"backtest"}'

    assert salvage_identity(too_large) == ("big", "backtest", "high")
    assert salvage_identity(b'{"task_id":"a","task_type":5}') == ("a", "unknown", "normal")
    assert salvage_identity(b'{"task_id":5}') == (None, "unknown", "normal")
    assert salvage_identity(b"[[[") == (None, "unknown", "normal")
    assert salvage_identity(b"\xff") == (None, "unknown", "normal")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"task_id":"a","task_type":"t","args":{"x":"\xff"},"priority":"high"}',
        b'{"task_id":"a","task_type":"t","priority":"high","args":{"x":NaN}}',
        b'{"args":{"task_id":"inner","x":'
        + b"[" * 5_000
        + b"]" * 5_000
        + b'},"priority":"high","task_id":"a","task_type":"t"}',
        b'\xef\xbb\xbf{"task_id" : "a", "task_type" : "t", "priority" : "high"}',
        b'{"task_id":"a","task_type":"t","priority":"high"}{"task_id":"b"}',
        b'{"args":{"p":"\\"task_id\\":\\"quoted\\""},"task_id":"a","task_type":"t","priority":"high","x":"cut off',
    ],
)
def test_the_identity_of_what_is_no_json_is_salvaged_where_it_stands_whole(payload: bytes) -> None:
    assert salvage_identity(payload) == ("a", "t", "high")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"task_id":"a\xff"}',
        b'{"task_id":"a\x00b"}',
        b'{"task_id":"cut off',
        b'{"args":{"task_id":"inner","x":NaN}}',
        b'[{"task_id":"a"}, NaN]',
        b'{"task_id":"\\ud800"}',
        b'}{"task_id":"a"}',
    ],
)
def test_no_identity_is_made_up(payload: bytes) -> None:
    assert salvage_identity(payload) == (None, "unknown", "normal")
