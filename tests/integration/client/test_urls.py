"""Every form of URL that redis-py accepts: it works on a real server, or is refused in words before anything starts."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from aworker.client.client import Client
from aworker.errors import ConfigError
from aworker.queues.connection import address_of, connect_synchronously, connection_arguments
from tests.kit.servers import Server
from tests.kit.workers import config_of, running_worker

TLS = Path(__file__).parents[2] / "fixtures" / "tls"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("urls")
    with Server(folder, "--unixsocket", str(folder / "s.sock")) as started:
        with started.client() as client:
            # A password with every character that means something in a URL.
            client.execute_command("ACL", "SETUSER", "an@user", "on", ">p/w#?:@ %", "~*", "&*", "+@all")
        yield started


@contextlib.contextmanager
def tls_in_front(port: int) -> Iterator[int]:
    """Take TLS connections, with a certificate of the client's own, and pass their bytes on to a plain port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    context.load_verify_locations(TLS / "cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                near: socket.socket = context.wrap_socket(plain, server_side=True)
            except OSError:
                plain.close()  # a client that does not trust the certificate, or has none
                continue
            far = socket.create_connection(("127.0.0.1", port))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pass_on, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


async def quick(args: dict[str, Any], context: Any) -> dict[str, Any]:
    return {"success": True}


async def serves(url: str, database: int, server: Server) -> None:
    """A task goes through a worker and a client of this URL, in that database."""
    with redis.Redis(port=server.port, db=database) as client:
        client.flushall()
        async with Client(url) as producer, running_worker(config_of(url), {"quick": quick}):
            record = await producer.result(await producer.enqueue("quick"), wait_s=15)
            assert record is not None
            assert record["status"] == "completed"
            assert client.exists(f"task_result:{record['task_id']}")


@pytest.mark.parametrize(
    ("form", "database"),
    [
        ("redis://127.0.0.1:{port}", 0),
        ("redis://localhost:{port}/3", 3),
        ("redis://127.0.0.1:{port}/3/", 3),
        ("redis://127.0.0.1:{port}?db=4", 4),
        ("redis://127.0.0.1:{port}/4?db=4", 4),
        ("redis://an%40user:p%2Fw%23%3F%3A%40%20%25@127.0.0.1:{port}/2", 2),
        ("redis://127.0.0.1:{port}/1?username=an%40user&password=p%2Fw%23%3F%3A%40%20%25", 1),
        ("redis://127.0.0.1:{port}?protocol=3&decode_responses=True&client_name=mine&socket_timeout=0.01", 0),
        ("redis://127.0.0.1:{port}?socket_connect_timeout=1&max_connections=1&health_check_interval=1", 0),
        ("redis://127.0.0.1:{port}?retry_on_timeout=True&socket_keepalive=False&encoding=latin-1&timeout=1", 0),
        ("unix://{folder}/s.sock", 0),
        ("unix://{folder}/s.sock?db=3", 3),
        ("unix://an%40user:p%2Fw%23%3F%3A%40%20%25@{folder}/s.sock?db=1&protocol=3&decode_responses=1", 1),
    ],
)
async def test_a_form_works(server: Server, form: str, database: int) -> None:
    await serves(form.format(port=server.port, folder=server.folder), database, server)


async def test_tls_works_with_certificates_of_both_sides(server: Server) -> None:
    mine = f"ssl_certfile={TLS / 'cert.pem'}&ssl_keyfile={TLS / 'key.pem'}"
    with tls_in_front(server.port) as port:
        await serves(f"rediss://localhost:{port}/3?ssl_ca_certs={TLS / 'cert.pem'}&{mine}", 3, server)
        await serves(
            f"rediss://an%40user:p%2Fw%23%3F%3A%40%20%25@127.0.0.1:{port}?ssl_cert_reqs=none&{mine}", 0, server
        )
        client = connect_synchronously(f"rediss://localhost:{port}?{mine}", name="n", timeout_s=5)
        with client, pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            client.ping()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"),
        ("http://h", "redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"),
        ("sentinel://h/0", "redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"),
        ("unix+sentinel://h/m", "redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"),
        ("redis+sentinel://h", "name the service after the sentinels"),
        ("redis+sentinel://h/0", "name the service after the sentinels"),
        ("redis+sentinel://h:26379,k:26379/", "name the service after the sentinels"),
        ("redis+sentinel:///mymaster", "name sentinels as host:port,host:port"),
        ("redis+sentinel://h,/mymaster", "name sentinels as host:port,host:port"),
        ("redis+sentinel://h:0/mymaster", "name sentinels as host:port,host:port"),
        ("redis+sentinel://h:26379,k:70000/mymaster", "name sentinels as host:port,host:port"),
        ("redis+sentinel://h:26379 k:26379/mymaster", "name sentinels as host:port,host:port"),
        ("redis+sentinel://u:hidden/secret@h:26379/mymaster", "name sentinels as host:port,host:port"),
        ("redis+sentinel://u:hid#den@h:26379/mymaster", "no # and no ?"),
        ("redis+sentinel://h/mymaster/x", "end in the number of a database"),
        ("redis+sentinel://h/mymaster/1?db=2", "name one database"),
        ("redis+sentinel://h/mymaster?sentinel_password=", "one value for sentinel_password"),
        ("redis+sentinel://h/mymaster?sentinel_pasword=x", "have options of"),
        ("redis+sentinel://h/mymaster?ssl_ca_certs=/x", "be a rediss:// URL"),
        ("rediss+sentinel://h/mymaster?ssl_ca_certs=/nowhere.pem", "name a readable ssl_ca_certs"),
        ("redis://h?sentinel_password=x", "have options of"),
        ("redis://h/abc", "end in the number of a database"),
        ("redis://h/1/2", "end in the number of a database"),
        ("redis://h/-1", "end in the number of a database"),
        ("redis://h?db=-1", "database >= 0"),
        ("redis://h?db=x", "Invalid value for 'db'"),
        ("redis://h?db=", "one value for db, has none"),
        ("redis://h?db=1&db=2", "one value for db, has 2"),
        ("redis://h/3?db=4", "name one database, names 3 and 4"),
        ("redis://h?protocol=9", "protocol=2 or 3"),
        ("redis://h?nosuch=1", "has nosuch; take it out"),
        ("redis://h?ssl_ca_certs=/x", "be a rediss:// URL to have ssl_ca_certs"),
        ("rediss://h?ssl_ca_certs=/nosuch", "a readable ssl_ca_certs, was '/nosuch'"),
        (f"rediss://h?ssl_certfile={TLS / 'key.pem'}", "TLS options that work"),
        ("rediss://h?ssl_cert_reqs=maybe", "TLS options that work"),
        ("redis://h:0", "port from 1"),
        ("redis://h:99999", "its port is no port"),
        ("redis://[::1", "Invalid IPv6 URL"),
        ("unix://relative.sock", "an absolute path"),
        ("unix://", "an absolute path"),
        ("redis://h?socket_connect_timeout=0", "socket_connect_timeout > 0"),
    ],
)
def test_any_other_form_is_refused_in_words(url: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        connection_arguments(url)

    assert words in str(refused.value)
    assert str(refused.value).startswith("redis.url must ")


@pytest.mark.parametrize("password", ["secret#1", "12#secret", "secret?1", "secret/1", "12/secret@1", "1?secret=2"])
def test_a_refusal_never_shows_a_piece_of_the_password(password: str) -> None:
    with pytest.raises(ConfigError) as refused:
        connection_arguments(f"redis://:{password}@host:6379/0")

    assert "secret" not in str(refused.value)


def test_an_address_has_no_password() -> None:
    assert address_of("redis://me:secret@host:7000/2") == "host:7000/2"
    assert address_of("redis+sentinel://me:secret@a:1,b/m/2?sentinel_password=s") == "m of a:1,b:26379/2"
    assert address_of("unix://me:secret@/run/v.sock?db=2") == "unix:/run/v.sock"
