"""What a user has who installs the package: all of it, or the part that a producer or a worker of their own needs."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path

import pytest
import redis
from packaging.requirements import Requirement

from aworker.extras import EXTRAS
from tests.packaging.conftest import Installation

pytestmark = pytest.mark.timeout(600)

Install = Callable[[str], Installation]

HANDLERS = """
from aworker import handler

@handler("echo")
async def echo(args, context):
    return args

@handler("heavy")
def heavy(args, context):
    return {"sum": sum(range(args["n"]))}
"""


def test_the_wheel_holds_all_that_is_no_code(built: Path) -> None:
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(source) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}

    for name in (
        "aworker/py.typed",
        "aworker/queues/scripts/claim.lua",
        "aworker/trading/prompts/lexicon.toml",
        "aworker/trading/prompts/common.LICENSE",
        "aworker/trading/data/1d/AAPL.parquet",
        "aworker/web/site/templates/_pages.html",
    ):
        assert name in names
        assert name in sources
    assert not {
        name for name in names if name.split("/")[0] not in ("aworker", wheel.name.split("-py3")[0] + ".dist-info")
    }


def test_an_extra_is_what_the_package_says(built: Path) -> None:
    said: dict[str, set[str]] = {name: set() for name in EXTRAS}
    for text in requires("aworker") or ():
        requirement = Requirement(text)
        for extra, names in said.items():
            marker = requirement.marker
            if marker is not None and f'extra == "{extra}"' in str(marker) and marker.evaluate({"extra": extra}):
                names.add(requirement.name.lower().replace("-", "_").partition("metry_")[0])

    names_of = {"talib": "ta_lib", "opentelemetry": "opentele"}
    assert said == {extra: {names_of.get(name, name) for name in modules} for extra, modules in EXTRAS.items()}


def test_a_producer_needs_little(installed: Install) -> None:
    base = installed("")

    ended = base.run(
        "python",
        "-c",
        "import sys; from aworker import Client, Retry, handler; "
        "print([name for name in ('numpy', 'polars', 'typer', 'rich', 'starlette', 'uvicorn') if name in sys.modules])",
    )

    assert (ended.stdout, ended.stderr) == ("[]\n", "")
    assert base.size_mb < 60


def test_a_worker_without_extras_runs_its_own_handlers(installed: Install, redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.rpush("strategy_queue", '{"task_id": "a", "task_type": "echo", "args": {"x": 1}}')
        client.rpush("strategy_queue", '{"task_id": "b", "task_type": "heavy", "args": {"n": 5}}')
        client.rpush("strategy_queue", '{"task_id": "c", "task_type": "backtest", "args": {"strategy_id": 1}}')

        ended = installed("").run(
            "aworker",
            "run",
            "--burst",
            "--redis-url",
            redis_url,
            cwd=tmp_path,
            PYTHONPATH=str(tmp_path),
            AWORKER_HANDLERS__MODULES='["mine"]',
            AWORKER_HTTP__PORT="9999",
        )

        a, b, c = (json.loads(client.get(f"task_result:{task_id}") or "{}") for task_id in "abc")
    assert ended.returncode == 0, ended.stderr
    assert a["data"]["x"] == 1
    assert b["data"]["sum"] == 10
    assert c["status"] == "error"
    assert "this one needs more packages: pip install 'aworker[trading]'" in c["data"]["error"]
    assert "backtest, screening, alert, sweep, report have no handler here" in ended.stderr
    assert "pip install 'aworker[web]', or set http.port to 0" in ended.stderr


@pytest.mark.parametrize(
    "command, extra",
    [
        ("bars list", "trading"),
        ("backtest rules.txt", "trading"),
        ("sweep rules.txt --set n=1..3", "trading"),
        ("web", "web"),
        ("run --embedded", "embedded"),
    ],
)
def test_what_is_missing_is_said_with_its_extra(installed: Install, tmp_path: Path, command: str, extra: str) -> None:
    (tmp_path / "rules.txt").write_text("entry: close > sma(close, 20)\n")

    ended = installed("").run("aworker", *command.split(), cwd=tmp_path)

    assert ended.returncode in (1, 2)
    assert f"pip install 'aworker[{extra}]'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["--help", "--version", "run --help", "bars --help", "check --help"])
def test_what_needs_no_extra_works_without_any(installed: Install, command: str) -> None:
    ended = installed("").run("aworker", *command.split())

    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_whole_of_it_runs_a_backtest_on_the_server_that_it_brings(installed: Install, tmp_path: Path) -> None:
    whole = installed("all")
    (tmp_path / "tasks.jsonl").write_text(
        '{"task_id": "a", "task_type": "backtest", "args": '
        '{"rules": "entry: close > sma(close, 50)\\nexit: close < sma(close, 50)", "symbols": ["AAPL"]}}\n'
    )

    ended = whole.run(
        "aworker",
        *("run", "--embedded", "--data-dir", str(tmp_path / "data"), "--burst", "--feed", "tasks.jsonl"),
        cwd=tmp_path,
        AWORKER_HTTP__PORT="0",
    )

    assert ended.returncode == 0, ended.stderr
    assert "Completed backtest task" in ended.stderr
