"""Who may ask the page and who may act: every door tried from outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from loguru import logger

from aworker.config import Config, HttpConfig, LiveConfig
from aworker.errors import ConfigError
from aworker.web import page
from aworker.web.server import site_of
from aworker.web.site.guard import TRIES, TRIES_OF_ALL, Sessions, Tries, is_own_host
from tests.kit.pages import TOKEN, asked, bury, form_token, log_in, present
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts, task

DONE = {
    "requeue": "dead",
    "drop": "dead",
    "cancel": "waits",
    "promote": "waits",
    "demote": "waits",
    "pause-queue": "normal",
    "resume-queue": "normal",
    "pause-type": "alert",
    "resume-type": "alert",
}


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    sink = logger.add(lambda message: found.append(str(message)), format="{level} {message}")
    yield found
    logger.remove(sink)


def state(queue: QueueScripts) -> list[Any]:
    return [
        queue.waiting(NORMAL),
        queue.waiting(PRIORITY),
        queue.client.hgetall(queue.keys.paused),
        queue.client.xlen(queue.keys.dead),
        queue.client.exists("task_result:waits"),
    ]


@pytest.fixture
def filled(queue: QueueScripts) -> QueueScripts:
    present(queue, "w1")
    queue.client.rpush(NORMAL, task("first"), task("waits"), task("last"))
    bury(queue.client, {"task_id": "dead", "payload": task("dead")})
    return queue


@pytest.mark.parametrize(
    "host, is_own",
    [
        ("localhost", True),
        ("localhost:9464", True),
        ("127.0.0.1:9464", True),
        ("[::1]:9464", True),
        ("10.0.0.7", True),
        ("LOCALHOST", True),
        ("page.example:1", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example@127.0.0.1", False),
        ("127.0.0.1#evil", False),
        ("", False),
        ("[", False),
        ("2130706433", False),
    ],
)
def test_only_a_name_of_its_own_is_answered(host: str, is_own: bool) -> None:
    assert is_own_host(host, ("page.example",)) is is_own


async def test_a_name_that_was_rebound_gets_nothing(filled: QueueScripts, redis_url: str) -> None:
    async with asked(redis_url, base="http://evil.example:9464") as client:
        for path in ("/", "/dead", "/live", "/static/page.js"):
            response = await client.get(path)
            assert response.status_code == 421
            assert "All is well" not in response.text
    async with asked(redis_url, base="http://ops.example", hosts=["ops.example"]) as client:
        assert (await client.get("/")).status_code == 200


async def test_every_answer_carries_the_rules_for_browsers(filled: QueueScripts, redis_url: str) -> None:
    async with asked(redis_url, token=TOKEN) as client:
        for path in ("/", "/dead", "/nosuch", "/login", "/static/page.css", "/do/drop?id=1-1"):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in headers
            assert headers["cache-control"] == ("max-age=86400" if "static" in path else "no-store")


@pytest.mark.parametrize("name", DONE)
async def test_without_a_token_nothing_can_be_done(filled: QueueScripts, redis_url: str, name: str) -> None:
    before = state(filled)
    async with asked(redis_url) as client:
        assert "do/" not in (await client.get("/")).text
        assert (await client.get("/login")).status_code == 403
        assert (await client.post("/login", data={"token": ""})).status_code == 403
        forged = Sessions("").begin()
        for cookies in ({}, {"aworker_session": forged}):
            client.cookies.update(cookies)
            assert (await client.get(f"/do/{name}", params={"id": DONE[name]})).status_code == 403
            data = {"csrf": Sessions("").form_token(forged)}
            assert (await client.post(f"/do/{name}", params={"id": DONE[name]}, data=data)).status_code == 403

    assert state(filled) == before


@pytest.mark.parametrize("name", DONE)
async def test_a_form_that_is_not_the_pages_own_does_nothing(
    filled: QueueScripts, redis_url: str, name: str, lines: list[str]
) -> None:
    before = state(filled)
    async with asked(redis_url, token=TOKEN) as client:
        assert (await client.post(f"/do/{name}", params={"id": DONE[name]})).status_code == 403
        await log_in(client)
        csrf = form_token((await client.get(f"/do/{name}", params={"id": DONE[name]})).text)
        for data, headers in (
            ({}, {}),
            ({"csrf": "0" * 64}, {}),
            ({"csrf": Sessions(TOKEN).form_token(Sessions(TOKEN).begin())}, {}),
            ({"csrf": csrf}, {"origin": "http://evil.example"}),
            ({"csrf": csrf}, {"origin": "null"}),
            ({"csrf": csrf, "fill": "x" * 70_000}, {}),
        ):
            refused = await client.post(f"/do/{name}", params={"id": DONE[name]}, data=data, headers=headers)
            assert refused.status_code == 403
        assert (await client.get(f"/do/{name}", params={"id": DONE[name], "csrf": csrf})).status_code == 200

    assert state(filled) == before
    assert sum("a form that is not this page's" in line for line in lines) == 6


async def test_each_action_is_asked_done_and_logged(filled: QueueScripts, redis_url: str, lines: list[str]) -> None:
    (entry,) = (entry.decode() for entry, _ in filled.client.xrange(filled.keys.dead))
    (second,) = bury(filled.client, {"task_id": "dead-2", "payload": task("dead-2")})
    async with asked(redis_url, token=TOKEN) as client:
        await log_in(client)

        async def done(name: str, target: str) -> str:
            asks = await client.get(f"/do/{name}", params={"id": target})
            assert asks.status_code == 200, asks.text
            given = {"csrf": form_token(asks.text)}
            ended = await client.post(
                f"/do/{name}", params={"id": target}, data=given, headers={"origin": "http://127.0.0.1:9464"}
            )
            assert ended.status_code == 200, ended.text
            return ended.text

        assert "It waits on the priority queue now" in await done("promote", "waits")
        assert filled.waiting(PRIORITY) == [task("waits")]
        assert "behind all that waits there" in await done("demote", "waits")
        assert "will never start" in await done("cancel", "waits")
        assert "There is nothing" not in await done("requeue", entry)
        assert task("dead") in filled.waiting(NORMAL)
        assert "It is deleted" in await done("drop", second)
        assert "no such dead letter" in await done("drop", second)
        assert filled.client.xlen(filled.keys.dead) == 0
        await done("pause-queue", "normal")
        await done("pause-type", "alert")
        assert set(filled.client.hgetall(filled.keys.paused)) == {b"queue strategy_queue", b"type alert"}
        await done("resume-queue", "normal")
        await done("resume-type", "alert")
        assert filled.client.exists(filled.keys.paused) == 0
        for name, target in (("pause-queue", "none"), ("pause-type", "none"), ("cancel", ""), ("nosuch", "x")):
            assert (await client.get(f"/do/{name}", params={"id": target})).status_code == 404

    audit = [line.strip() for line in lines if "From the page" in line]
    assert audit[1] == (
        "INFO From the page, by 127.0.0.1: promote waits: It waits on the priority queue now: it is taken next there"
    )
    assert len(audit) == 11
    assert TOKEN not in "".join(lines)


async def test_the_log_line_of_a_hostile_id_is_one_line(filled: QueueScripts, redis_url: str, lines: list[str]) -> None:
    odd = "a\nINFO all is fine\x1b[2J{message}"
    async with asked(redis_url, token=TOKEN) as client:
        await log_in(client)
        asks = await client.get("/do/cancel", params={"id": odd})
        await client.post("/do/cancel", params={"id": odd}, data={"csrf": form_token(asks.text)})

    (line,) = [line for line in lines if "cancel" in line]
    assert line.count("\n") == 1
    assert "\x1b" not in line


async def test_the_cookie_is_kept_from_scripts_and_other_sites(filled: QueueScripts, redis_url: str) -> None:
    async with asked(redis_url, token=TOKEN) as client:
        header = (await log_in(client)).headers["set-cookie"]
        assert "HttpOnly" in header
        assert "SameSite=strict" in header
        assert "Secure" not in header
        assert "Path=/" in header
        assert TOKEN not in header
        shown = (await client.get("/")).text
        assert "do/pause-queue" in shown
        await client.post("/logout", data={"csrf": form_token(shown)})
        assert "do/pause-queue" not in (await client.get("/")).text
    async with asked(redis_url, token=TOKEN, base="https://localhost") as client:
        assert "Secure" in (await log_in(client)).headers["set-cookie"]


async def test_guessing_is_slowed_down(filled: QueueScripts, redis_url: str, lines: list[str]) -> None:
    async with asked(redis_url, token=TOKEN) as client:
        codes = [(await log_in(client, f"guess-{index}")).status_code for index in range(TRIES + 3)]
        right = await log_in(client)

    assert codes == [403] * TRIES + [429] * 3
    assert right.status_code == 429
    assert int(right.headers["retry-after"]) >= 1
    assert "guess" not in "".join(lines)
    assert any("too many wrong tokens" in line for line in lines)


def test_tries_are_forgotten_with_time_and_bounded_by_all_addresses() -> None:
    now = [0.0]
    tries = Tries(lambda: now[0])
    for index in range(TRIES):
        assert tries.wait_s("a") == 0
        tries.note("a")
        now[0] = index
    assert tries.wait_s("a") > 0
    assert tries.wait_s("b") == 0
    now[0] = 61
    assert tries.wait_s("a") == 0
    for index in range(TRIES_OF_ALL):
        tries.note(f"other-{index}")
    assert tries.wait_s("fresh") > 0
    for index in range(5_000):
        tries.note(f"flood-{index}")
    assert len(tries._by_address) <= 1_000


def test_a_browser_that_is_known_has_tries_of_its_own() -> None:
    now = [0.0]
    tries = Tries(lambda: now[0])
    for index in range(TRIES_OF_ALL):
        tries.note(f"10.0.0.{index}")
    assert tries.wait_s("10.0.1.1") > 0
    assert tries.wait_s("10.0.0.1", "mine") == 0

    for _ in range(TRIES):
        tries.note("10.0.0.1", "mine")
    assert tries.wait_s("10.9.9.9", "mine") > 0
    assert tries.wait_s("10.0.0.1", "another's") == 0


def test_a_network_of_ipv6_is_one_address() -> None:
    tries = Tries(lambda: 0.0)
    for index in range(TRIES):
        tries.note(f"2001:db8:1:2::{index + 1}")

    assert tries.wait_s("2001:db8:1:2:ffff::9") > 0
    assert tries.wait_s("2001:db8:1:3::1") == 0


async def test_guessing_keeps_nobody_out_who_was_in_before(filled: QueueScripts, redis_url: str) -> None:
    async with asked(redis_url, token=TOKEN) as client:
        assert (await log_in(client)).status_code == 303
        known = {"aworker_known": str(client.cookies["aworker_known"])}
        client.cookies.clear()
        for index in range(TRIES_OF_ALL):
            await log_in(client, f"guess-{index}")
        assert (await log_in(client)).status_code == 429

        for forged in (known["aworker_known"][:-1] + "x", "1.a.b", ""):
            client.cookies.update({"aworker_known": forged})
            assert (await log_in(client)).status_code == 429
        client.cookies.update(known)
        assert (await log_in(client)).status_code == 303


async def test_a_session_that_was_logged_out_of_acts_nowhere(filled: QueueScripts, redis_url: str) -> None:
    async with asked(redis_url, token=TOKEN) as client, asked(redis_url, token=TOKEN) as elsewhere:
        await log_in(client)
        elsewhere.cookies.update(client.cookies)
        asks = await elsewhere.get("/do/pause-queue", params={"id": "normal"})
        assert asks.status_code == 200
        await client.post("/logout", data={"csrf": form_token((await client.get("/")).text)})

        after = await elsewhere.post("/do/pause-queue", params={"id": "normal"}, data={"csrf": form_token(asks.text)})
        assert after.status_code == 403
        assert filled.client.hgetall(filled.keys.paused) == {}
        (ended,) = filled.client.keys("aworker:ended_session:*")
        assert 28_000 < filled.client.ttl(ended) <= 28_800


def test_a_session_is_bound_to_the_token_and_to_time() -> None:
    now = [1_000.0]
    sessions = Sessions(TOKEN, lambda: now[0])
    cookie = sessions.begin()
    head, _, signature = cookie.rpartition(".")
    assert sessions.holds(cookie)
    assert not Sessions(TOKEN + "x", lambda: now[0]).holds(cookie)
    for forged in ("", ".", "a.b", "9" * 20, f"9{head}.{signature}", cookie[:-1] + "é", cookie + "0", f"{head}."):
        assert not sessions.holds(forged)
    assert not sessions.holds(None)
    now[0] += 8 * 3_600 + 1
    assert not sessions.holds(cookie)


def test_a_token_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 16 characters"):
        page("redis://127.0.0.1", token="short")
    with pytest.raises(ConfigError, match="URL"):
        page("http://127.0.0.1")


@pytest.mark.parametrize("variable, value", [("", ""), ("NO_SUCH_TOKEN", ""), ("PAGE_TOKEN", "short")])
def test_a_worker_whose_token_cannot_be_used_serves_a_page_to_read(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], variable: str, value: str
) -> None:
    if value:
        monkeypatch.setenv(variable, value)
    config = msgspec.structs.replace(Config(), http=HttpConfig(token_env=variable))

    site = site_of(LiveConfig(config))

    assert not site._sessions.is_open
    assert [line for line in lines if "the page is read-only" in line] == lines
    assert len(lines) == bool(variable)
    assert "short" not in "".join(lines)
