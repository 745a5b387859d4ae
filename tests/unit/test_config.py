from pathlib import Path

import pytest

from aworker.config import Config, configuration_hash, load_config
from aworker.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "aworker.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_at_all_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert load_config(environment={}) == Config()


def test_environment_overrides_the_file_and_flags_override_both(tmp_path: Path) -> None:
    path = write(tmp_path, "[worker]\nslots = 3\ndrain_timeout_s = 3\n[redis]\nurl = 'redis://a:1/0'\n")
    environment = {
        "AWORKER_WORKER__SLOTS": "4",
        "AWORKER_REDIS__URL": "redis://b:2/0",
        "AWORKER_TASKS__X__RETRIES": "2",
    }

    config = load_config(path, environment=environment, flags={"worker": {"slots": 5}})

    assert (config.worker.slots, config.worker.drain_timeout_s) == (5, 3)
    assert config.redis.url == "redis://b:2/0"
    assert config.task("x").retries == 2


def test_a_text_field_takes_the_environments_value_as_it_stands() -> None:
    config = load_config(environment={"AWORKER_LLM__BASE_URL": "5", "AWORKER_LLM__MODEL": "7"})

    assert (config.llm.base_url, config.llm.model) == ("5", "7")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[worker]\nslots = 'many'", "worker.slots must be `int`, is `str`, was 'many'"),
        ("[worker]\nslot = 1", "worker.slot must be a known field"),
        ("[wroker]\nslots = 1", "wroker must be a known field"),
        ("[worker]\nslots = 0", "worker.slots must be 1 to 10000, was 0"),
        ("[worker]\nlease_ttl_s = 1.5", r"worker.lease_ttl_s must be > 2 \* renew_interval_s, was 1.5; use at least 5"),
        ("[worker]\nreserved = {vip = 1}", "worker.reserved.vip must be the label of a level"),
        ("[[queues]]\nname = 'a'\nlabel = 3", r"queues\[0\].label must be `str`, is `int`, was 3"),
        ("[[queues]]\nname='a'\nlabel='x'\n[[queues]]\nname='a'\nlabel='y'", "queues.name must be different"),
        ("[[queues]]\nname='a\"'\nlabel='x'", r"queues\[0\].name must be printable"),
        ("[tasks.backtest]\ntimeout_s = -1", "tasks.backtest.timeout_s must be >= 0, was -1"),
        ("[worker]\ndelivery = 'never'", "worker.delivery must be one of 'leased', 'at-most-once', was 'never'"),
        (
            "[[queues]]\nname = 'a'\nlabel = 'a'\ntake_from = 'up'",
            r"queues\[0\].take_from must be one of 'auto', 'left', 'right'",
        ),
        ("[logging]\nfile = 'a'\nrotation = 'often'", "logging.rotation must be a size, an interval or a time"),
        ("[logging]\nfile = 'a'\nrotation = '1 MB'\nretention = 'long'", "logging.retention must be a number of files"),
        ("[logging]\nfile = 'a'\nretention = 0\nrotation = '1 MB'", "logging.retention must be"),
        ("[logging]\nfile = 'a'\nretention = 5", "logging.rotation must be set where retention is"),
        ("[logging]\nrotation = '1 MB'", "logging.file must be set where rotation or retention is"),
        ("= 3", "the file must be TOML"),
        ("worker = 3", "worker must be `object`"),
    ],
)
def test_a_bad_file_is_refused_with_its_path_rule_and_value(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)

    with pytest.raises(ConfigError, match=f"{path}: .*{words}"):
        load_config(path, environment={})


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml", environment={})


def test_a_secret_url_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, "[redis]\nurl = ['redis://:hunter2@h/0']"), environment={})

    assert "hunter2" not in str(raised.value)


def test_reserved_slots_are_at_most_a_quarter() -> None:
    def reserved(slots: int) -> tuple[int, ...]:
        return load_config(environment={}, flags={"worker": {"slots": slots}}).reserved_slots

    assert [reserved(slots) for slots in (16, 8, 4, 3, 1)] == [(2, 0), (2, 0), (1, 0), (0, 0), (0, 0)]


def test_workers_that_are_configured_alike_have_one_hash(tmp_path: Path) -> None:
    def hash_of(text: str, **environment: str) -> str:
        return configuration_hash(load_config(write(tmp_path, text), environment=environment))

    plain = hash_of("")
    stored = hash_of("[strategies]\nurl = 'redis://:one@store:6379/1'")

    assert len(plain) == 12
    assert plain == hash_of("[worker]\nslots = 17\n[pool]\nprocesses = 3")
    assert plain == hash_of("[worker]\nlease_ttl_s = 5.0\n[http]\nport = 9464\n[logging]\nlevel = 'DEBUG'")
    assert plain == hash_of("", AWORKER_REDIS__URL="redis://:secret@elsewhere/0")
    assert stored == hash_of("[strategies]\nurl = 'redis://user:two@store:6379/1'")
    others = [
        stored,
        hash_of("[worker]\nlease_ttl_s = 6.0"),
        hash_of("[strategies]\nurl = 'redis://store:6379/2'"),
        hash_of("[tasks.backtest]\nretries = 1"),
        hash_of("[llm]\nbase_url = 'http://[nonsense'\nmodel = 'm'"),
    ]
    assert len({plain, *others}) == 6


@pytest.mark.parametrize("rotation", ["100 MB", "1.5 GiB", "12 hours", "1 week", "00:00", "sunday at 03:00", "daily"])
@pytest.mark.parametrize("retention", ["", 1, 10, "14 days", "1 month"])
def test_rotation_and_retention_are_in_logurus_words(rotation: str, retention: str | int) -> None:
    logging = {"file": "log", "rotation": rotation, "retention": retention}

    config = load_config(environment={}, flags={"logging": logging})

    assert (config.logging.rotation, config.logging.retention) == (rotation, retention)
    assert load_config(environment={f"AWORKER_LOGGING__{name.upper()}": str(value) for name, value in logging.items()})
