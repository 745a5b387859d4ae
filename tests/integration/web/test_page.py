"""What the page shows of a real server, without a browser; what it costs that server, by counts."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from aworker.clock import now_s
from aworker.queues.presence import RunningTask
from aworker.web import page
from tests.kit.pages import asked, bury, counted, present, record
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts, task
from tests.kit.servers import Server, free_port

HOSTILE = "<script>alert(1)</script>\"'>&{{7*7}}\u202egnp.exe\x00\n%2e%2e/"


def words(text: str) -> str:
    """The text of a page as a person reads it."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


async def test_all_is_well_is_said_first_with_its_reason(queue: QueueScripts, redis_url: str) -> None:
    present(queue, "w1")
    async with asked(redis_url) as client:
        shown = await client.get("/")

    assert shown.status_code == 200
    assert "All is well 1 worker serves, 1 of 16 slots busy, 0 waiting" in words(shown.text)
    assert "w1-runs backtest normal 5" in words(shown.text)
    assert "alert 0 9 1 10.0 %" in words(shown.text)
    assert "host-1 0.1.0" in words(shown.text)


@pytest.mark.parametrize(
    "happens, said",
    [
        (lambda q: q.client.lpush(NORMAL, task("a")), "Trouble No worker is there: 1 task waits for one"),
        (lambda q: [present(q, "w1", at_s=now_s() - 100)], "Worker w1 has said nothing for 10"),
        (lambda q: [present(q, "w1", loop_lag_s=9.0)], "Trouble The loop of worker w1 is blocked for 9 s"),
        (lambda q: [present(q, "w1", children={"busy": 0, "idle": 0, "spare": 0, "died": 3, "killed": 0})], "Trouble"),
        (lambda q: (present(q, "w1"), present(q, "w2", version="9")), "Workers of different versions: 0.1.0, 9"),
        (lambda q: (present(q, "w1"), bury(q.client, {})), "Worth a look 1 dead letter, the newest just now"),
        (
            lambda q: (present(q, "w1"), q.client.hset(q.keys.paused, "queue " + NORMAL, "1")),
            "Worth a look The normal queue is paused, 0 tasks wait",
        ),
        (
            lambda q: (present(q, "w1"), q.client.hset(q.keys.paused, "type alert", "1")),
            "Worth a look Paused: alert tasks",
        ),
    ],
)
async def test_what_is_wrong_is_said(queue: QueueScripts, redis_url: str, happens: Any, said: str) -> None:
    happens(queue)
    async with asked(redis_url) as client:
        assert said in words((await client.get("/")).text)


async def test_a_worker_of_another_version_is_shown_as_far_as_it_says_something(
    queue: QueueScripts, redis_url: str
) -> None:
    present(queue, "newer", children={"hot": 1, "idle": 1})
    present(queue, "odd")
    queue.client.set(queue.keys.presence("odd"), b'{"worker_id": 1, "slots": "many"}')
    queue.client.rpush(NORMAL, task("a"))
    queue.claim("older", now_ms=int(now_s() * 1_000))
    async with asked(redis_url) as client:
        shown = words((await client.get("/")).text)

    assert "All is well 3 workers serve, 2 of 16 slots busy" in shown
    assert "newer serves 1 of 16 0 busy, 1 idle host-1" in shown
    assert "older serves 1 – – – –" in shown
    assert "odd serves 0 – – – –" in shown


async def test_an_empty_server_is_shown(queue: QueueScripts, redis_url: str) -> None:
    async with asked(redis_url) as client:
        for path in ("/", "/running", "/delayed", "/dead", "/waiting?queue=normal"):
            assert (await client.get(path)).status_code == 200
        for path in ("/task?id=nobody", "/task?entry=1-1", "/waiting?queue=none", "/nosuch", "/static/../site.py"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/task?id=")).status_code == 400


async def test_lists_show_the_next_one_first_page_by_page(queue: QueueScripts, redis_url: str) -> None:
    present(queue, "w1")
    queue.client.rpush(NORMAL, *(task(f"t{index:03}", f"2026-09-21T14:13:{index // 2:02}Z") for index in range(60)))
    async with asked(redis_url) as client:
        first = (await client.get("/waiting?queue=normal")).text
        last = (await client.get("/waiting?queue=normal&from=50")).text
        beyond = await client.get("/waiting?queue=normal&from=999999")
        odd = (await client.get("/waiting?queue=normal&from=-1")).text

    assert re.findall(r">(t\d{3})<", first) == [f"t{index:03}" for index in range(25)]
    assert re.findall(r">(t\d{3})<", last) == [f"t{index:03}" for index in range(50, 60)]
    assert "1 to 25 of 60" in words(first)
    assert 'rel="prev" href="/waiting?queue=normal&amp;from=25"' in last
    assert 'rel="next"' not in last
    assert beyond.status_code == 200
    assert re.findall(r">(t\d{3})<", odd)[0] == "t000"


async def test_a_list_that_others_push_on_the_left_is_shown_in_its_order(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, *(task(f"t{index:03}", f"2026-09-21T14:13:{index:02}Z") for index in range(30)))
    async with asked(redis_url) as client:
        first = (await client.get("/waiting?queue=normal")).text
        second = (await client.get("/waiting?queue=normal&from=25")).text

    assert re.findall(r">(t\d{3})<", first) == [f"t{index:03}" for index in range(25)]
    assert re.findall(r">(t\d{3})<", second) == [f"t{index:03}" for index in range(25, 30)]


async def test_a_task_is_found_wherever_it_is(queue: QueueScripts, redis_url: str) -> None:
    present(queue, "w1", limits={"backtest": 1})
    queue.client.lpush(PRIORITY, task("runs"))
    queue.claim()
    queue.client.rpush(NORMAL, task("waits/with spaces?&"))
    queue.client.zadd(queue.keys.delayed, {b'7 "strategy_queue"\n' + task("later"): (now_s() + 60) * 1000})
    record(queue, "done", "completed", {"success": True, "completed_at": "2026-01-01T00:00:00Z"})
    (entry,) = bury(queue.client, {"task_id": "dead", "payload": task("dead"), "error": "it broke"})
    async with asked(redis_url) as client:

        async def of(task_id: str) -> str:
            return words((await client.get("/task", params={"id": task_id})).text)

        assert "Runs on w1" in await of("runs")
        waits = await of("waits/with spaces?&")
        assert "Waits on the normal queue, 0 before it" in waits
        assert '"task_id": "waits/with spaces?&"' in waits
        assert "Delayed until" in await of("later")
        assert "Ended: completed" in await of("done")
        assert "2026-01-01T00:00:00Z completed, on w1" in await of("done")
        dead = await of("dead")
        assert "Dead letter: HandlerRaised it broke" in dead
        assert words((await client.get(f"/task?entry={entry}")).text).count("it broke") == 1


async def test_a_backtest_shows_its_curve(queue: QueueScripts, redis_url: str) -> None:
    curve = [[1_700_000_000 + day * 86_400, 1 + day / 100] for day in range(50)]
    metrics = {"total_return": 0.49, "sharpe_ratio": 1.5, "buy_and_hold": {"total_return": 0.1}, "equity_curve": curve}
    summary = {"total_instances": 3, "positive_instances": 2, "date_range": ["2023-11-14", "2024-01-02"]}
    result = {"execution_mode": "backtest", "strategy_id": 7, "performance_metrics": metrics, "summary": summary}
    record(queue, "b", "completed", result)
    async with asked(redis_url) as client:
        shown = (await client.get("/task?id=b")).text

    assert 'class="line line0" points="0.0,116.0 ' in shown
    assert "600.0,4.0" in shown
    assert "Return 49.0 %" in words(shown)
    assert "Holding instead 10.0 %" in words(shown)


@pytest.mark.parametrize(
    "curve",
    [None, "x", [], [[1, 1]], [[2, 1], [1, 1]], [[1, "<b>"], [2, 1]], [[1, 1, 1]], [[1, 1e300], [2, 1]], [1, 2], {}],
)
async def test_a_curve_that_is_none_is_not_drawn(queue: QueueScripts, redis_url: str, curve: Any) -> None:
    record(queue, "b", "completed", {"execution_mode": "backtest", "performance_metrics": {"equity_curve": curve}})
    async with asked(redis_url) as client:
        shown = await client.get("/task?id=b")

    assert shown.status_code == 200
    assert "Its result holds no curve" in shown.text


async def test_what_comes_from_outside_is_text(queue: QueueScripts, redis_url: str) -> None:
    now = now_s()
    present(queue, "w1", host=HOSTILE, version=HOSTILE, running=[RunningTask(HOSTILE, HOSTILE, HOSTILE, 1, now)])
    present(queue, "w2<img src=x onerror=alert(1)>", at_s=now - 60)
    queue.client.rpush(NORMAL, task(HOSTILE, task_type=HOSTILE), HOSTILE.encode(), b"\xff\xfe\x00")
    queue.client.hset(queue.keys.paused, f"type {HOSTILE}", "1")
    queue.client.hset(queue.keys.minutes, f"1 {HOSTILE}", "x")
    record(queue, HOSTILE, "completed", {"execution_mode": "backtest", "strategy_id": HOSTILE, "summary": HOSTILE})
    letter = dict.fromkeys(("error", "reason", "cause", "worker_id", "task_type", "died_at", "queue"), HOSTILE)
    (entry,) = bury(queue.client, {**letter, "task_id": "x" + HOSTILE, "payload": HOSTILE, "deliveries": HOSTILE})
    paths = ["/", "/running", "/dead", f"/task?entry={entry}", "/waiting?queue=normal"]
    paths += [f"/task?id={quote(name, safe='')}" for name in (HOSTILE, "x" + HOSTILE, "</title><script>x")]
    async with asked(redis_url) as client:
        shown = {path: await client.get(path) for path in paths}

    for path, response in shown.items():
        text = response.text
        assert response.status_code in (200, 404), (path, text)
        assert len(re.findall(r"<script", text)) == 1, path
        assert not re.search(r"<img|<b>|\son\w+=\"|style=|javascript:", text), path
        assert "\u202e" not in text, path
        assert "\x00" not in text, path
        assert "49" not in re.findall(r"alert\(1\)[^\n]{0,40}?(49)", text), path


@pytest.mark.parametrize(
    "value", [b"no json", b"[]", b'{"data": 1}', b"\xff", b'{"status": {"a": 1}, "data": []}', b"{" * 5_000]
)
async def test_a_record_in_other_words_is_shown_as_it_is(queue: QueueScripts, redis_url: str, value: bytes) -> None:
    queue.client.set("task_result:odd", value)
    async with asked(redis_url) as client:
        assert (await client.get("/task?id=odd")).status_code in (200, 404)


async def test_huge_payloads_are_cut(queue: QueueScripts, redis_url: str) -> None:
    present(queue, "w1")
    big = task("big", args={"prompt": "p" * 3_000_000})
    queue.client.rpush(NORMAL, *[big] * 3)
    (entry,) = bury(queue.client, {"task_id": "dead-big", "payload": big})
    async with asked(redis_url) as client:
        for path, most in (("/", 40_000), ("/waiting?queue=normal", 40_000), (f"/task?entry={entry}", 400_000)):
            with counted(queue.client) as cost:
                response = await client.get(path)
            assert len(response.content) < 60_000, path
            assert cost.answered_bytes < most, path
        assert "3,000,1" in response.text
        assert "the beginning" in response.text


async def test_two_hundred_workers_and_a_hundred_thousand_dead_letters_cost_the_same(
    queue: QueueScripts, redis_url: str
) -> None:
    for index in range(200):
        present(queue, f"worker_{index}", running=[RunningTask(f"t{n}", "x", "normal", 1, 1.0) for n in range(16)])
    for start in range(0, 100_000, 10_000):
        bury(queue.client, *({"task_id": f"d{start + index}"} for index in range(10_000)))
    async with asked(redis_url) as client:
        costs = {}
        for path in ("/", "/dead", "/running", "/task?id=nobody", "/task?id=d99000"):
            with counted(queue.client) as cost:
                response = await client.get(path)
            assert len(response.content) < 100_000, path
            costs[path] = cost
        older = re.findall(r'href="(/dead\?before=[^"]+)"', (await client.get("/dead")).text)
        with counted(queue.client) as further:
            second = await client.get(older[0])

    assert costs["/"].commands < 40
    assert costs["/"].answered_bytes < 1_500_000
    assert costs["/dead"].commands <= 8
    assert costs["/dead"].answered_bytes < 30_000
    assert costs["/running"].commands < 40
    assert costs["/task?id=nobody"].commands < 150
    assert further.commands <= 8
    assert re.findall(r">(d\d+)<", second.text) == [f"d{99_974 - index}" for index in range(25)]
    assert "d99000" in response.text


async def test_whoever_looks_at_once_shares_one_look(queue: QueueScripts, redis_url: str) -> None:
    present(queue, "w1")
    async with asked(redis_url) as client:
        await client.get("/")
        with counted(queue.client) as cost:
            for _ in range(5):
                await client.get("/")

    assert cost.commands == 0


async def test_it_says_when_redis_does_not_answer(tmp_path: Path) -> None:
    async with asked(f"redis://user:geheim@127.0.0.1:{free_port()}/0") as client:
        for path in ("/", "/dead", "/task?id=a", "/delayed", "/running"):
            shown = await client.get(path)
            assert shown.status_code == 503, path
            assert "Trouble" in shown.text
            assert "geheim" not in shown.text


async def test_nothing_of_the_url_is_shown(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        port = str(server.port)
        with server.client() as client_of_server:
            client_of_server.config_set("requirepass", "sesame-of-redis")
        async with asked(f"redis://:sesame-of-redis@127.0.0.1:{port}/0") as client:
            for path in ("/", "/dead", "/task?id=a", "/nosuch", "/login"):
                text = (await client.get(path)).text
                assert "sesame" not in text
                assert port not in text


async def test_it_is_mounted_under_a_prefix(queue: QueueScripts, redis_url: str) -> None:
    present(queue, "w1")
    (entry,) = bury(queue.client, {})
    whole = Starlette(routes=[Mount("/ops/aworker", page(redis_url))])
    transport = httpx2.ASGITransport(app=whole)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", follow_redirects=True) as client:
        for path in ("/ops/aworker", "/ops/aworker/", "/ops/aworker/dead", f"/ops/aworker/task?entry={entry}"):
            shown = await client.get(path)
            assert shown.status_code == 200
            links = re.findall(r'(?:href|src|action)="([^"#][^"]*)"', shown.text)
            assert all(link.startswith("/ops/aworker/") for link in links if not link.startswith("data:")), links
            for link in links:
                if "/static/" in link:
                    assert (await client.get(html.unescape(link))).status_code == 200


async def test_only_so_many_look_on(queue: QueueScripts, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aworker.web.site.site.WATCHERS_MOST", 0)
    async with asked(redis_url) as client:
        refused = await client.get("/live")
        assert (await client.get("/")).status_code == 200

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")


async def test_changes_are_sent_as_they_come(queue: QueueScripts, redis_url: str) -> None:
    present(queue, "w1")
    messages: list[dict[str, Any]] = []
    gone = anyio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    def parts() -> list[dict[str, str]]:
        text = b"".join(message.get("body", b"") for message in messages).decode()
        return [json.loads(data) for data in re.findall(r"data: (.*)", text)]

    async def send(message: Any) -> None:
        messages.append(message)
        seen = parts()
        if len(seen) == 1 and not queue.client.exists(NORMAL):
            queue.client.rpush(NORMAL, task("new"))
        if len(seen) > 1:
            gone.set()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/live",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "asgi": {"version": "3.0", "spec_version": "2.3"},
    }
    with anyio.fail_after(20):
        await page(redis_url)(scope, receive, send)

    first, second, *_ = parts()
    assert set(first) == {"verdict", "levels", "hour", "running", "workers", "types", "recent"}
    assert "levels" in second
    assert "1 <span" in second["levels"]
    assert "hour" not in second
