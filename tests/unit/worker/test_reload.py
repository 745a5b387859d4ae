from pathlib import Path

from aworker.config import Config, LiveConfig, load_config
from aworker.worker.reload import Reload


def reload_of(path: Path) -> tuple[LiveConfig, Reload, list[int]]:
    live = LiveConfig(load_config(path, environment={}))
    applied: list[int] = []
    reload = Reload(
        live, path, lambda: load_config(path, environment={}), lambda old, new: applied.append(new.worker.slots)
    )
    return live, reload, applied


async def test_a_changed_file_is_applied_once(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[worker]\nslots = 4\n")
    live, reload, applied = reload_of(path)

    await reload.look()
    assert applied == []

    path.write_text("[worker]\nslots = 12\n")
    await reload.look()
    await reload.look()

    assert applied == [12]
    assert live.value.worker.slots == 12


async def test_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[worker]\nslots = 4\n")
    live, reload, applied = reload_of(path)

    path.write_text("[worker]\nslots = 'many'\n")
    await reload.look()
    path.unlink()
    await reload.look()

    assert applied == []
    assert live.value == Config(worker=live.value.worker)
    assert live.value.worker.slots == 4


async def test_what_cannot_change_while_running_is_refused_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[worker]\nslots = 4\n")
    live, reload, applied = reload_of(path)

    path.write_text("[worker]\nslots = 5\n[redis]\nurl = 'redis://elsewhere:1/0'\n")
    reload.reload()

    assert applied == []
    assert live.value.worker.slots == 4


async def test_what_listens_stays_as_it_is_while_its_names_may_change(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[http]\nport = 9000\n")
    live, reload, applied = reload_of(path)

    path.write_text("[http]\nport = 9001\n")
    reload.reload()
    assert applied == []

    path.write_text("[http]\nport = 9000\nhosts = ['ops.example']\n")
    reload.reload()
    assert len(applied) == 1
    assert live.value.http.hosts == ("ops.example",)
