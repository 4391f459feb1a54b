"""Who gets in: passwords, permissions, and what lies where the server wants to be."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from .conftest import SECONDS, Served, client, ended, wait_for
from .resp import Link


def test_a_network_address_without_a_password_is_refused(directory: Path) -> None:
    done = ended("--dir", str(directory), "serve", "r", "--bind", "127.0.0.1:0")
    assert done.returncode == 2
    assert "--bind" in done.stderr and "password_file" in done.stderr and "--no-auth" in done.stderr


def test_who_does_not_know_the_password_gets_nothing(serve: Callable[..., Served], directory: Path) -> None:
    (directory / "password").write_text("s3cret\n")
    (directory / "reader").write_text("look\n")
    for name in ("password", "reader"):
        (directory / name).chmod(0o600)
    served = serve(
        "--bind",
        "127.0.0.1:0",
        "--password-file",
        str(directory / "password"),
        "--reader-password-file",
        str(directory / "reader"),
    )
    for place in (served.path, served.address):
        with Link(place) as link:
            refused = ("-", "NOAUTH Authentication required.")
            assert link.call("GET", "k") == refused and link.call("FLUSHALL") == refused
            assert link.call("MULTI") == refused and link.call("INFO") == refused
            wrong = ("-", "WRONGPASS invalid username-password pair or user is disabled.")
            assert link.call("AUTH", "wrong") == wrong and link.call("AUTH", "nobody", "s3cret") == wrong
            assert link.call("HELLO", 3)[1].startswith("NOAUTH HELLO")  # type: ignore[index]
            assert link.call("AUTH", "s3cret") == ("+", "OK") and link.call("SET", "k", "v") == ("+", "OK")
            assert link.call("RESET") == ("+", "RESET") and link.call("GET", "k") == refused
            assert link.call("AUTH", "reader", "look") == ("+", "OK")
            assert link.call("GET", "k") == b"v" and link.call("ACL", "WHOAMI") == b"reader"
            for words in (["SET", "k", "w"], ["DEL", "k"], ["FLUSHALL"], ["EXPIRE", "k", 1], ["CLIENT", "LIST"]):
                reply = link.call(*words)
                assert isinstance(reply, tuple) and reply[1].startswith("NOPERM User reader"), reply
            assert link.call("MULTI") == ("+", "OK")
            assert link.call("SET", "k", "w")[1].startswith("NOPERM")  # type: ignore[index]
            assert link.call("EXEC")[1].startswith("EXECABORT")  # type: ignore[index]
    r = redis.Redis(*served.address, username="reader", password="look", socket_timeout=SECONDS)
    assert r.get("k") == b"v"
    with pytest.raises(redis.exceptions.NoPermissionError):
        r.set("k", "w")
    # A stranger cannot have the server keep much.
    with Link(served.address) as link:
        link.raw(b"*2\r\n$3\r\nGET\r\n$1000000\r\n")
        assert link.rest() == b"-ERR Protocol error: unauthenticated bulk length\r\n"


def test_a_new_password_is_read_when_the_server_is_told_to(serve: Callable[..., Served], directory: Path) -> None:
    password = directory / "password"
    password.write_text("old")
    password.chmod(0o600)
    served = serve("--password-file", str(password))
    password.write_text("new")
    served.process.send_signal(signal.SIGHUP)

    def is_new() -> bool:
        with Link(served.path) as link:
            return link.call("AUTH", "new") == ("+", "OK")

    wait_for(is_new)
    with Link(served.path) as link:
        assert link.call("AUTH", "old")[1].startswith("WRONGPASS")  # type: ignore[index]


def test_the_socket_is_its_owners_alone(served: Served) -> None:
    assert os.stat(served.path).st_mode & 0o777 == 0o600


def test_the_socket_has_the_permissions_it_was_given(serve: Callable[..., Served]) -> None:
    assert os.stat(serve("--socket-mode", "660").path).st_mode & 0o777 == 0o660


def test_what_lies_where_the_lock_should_be_is_left_alone(directory: Path) -> None:
    target = directory / "target"
    for make in (lambda lock: lock.symlink_to(target), os.mkfifo):
        lock = directory / ".r.sock.lock"
        make(lock)
        done = ended("--dir", str(directory), "serve", "r", "--size", "1MiB")
        assert done.returncode == 2 and "lock" in done.stderr, done.stderr
        assert not target.exists()
        lock.unlink()


def test_two_servers_do_not_share_a_socket(served: Served) -> None:
    done = ended("--dir", str(served.directory), "serve", "served")
    assert done.returncode == 2 and "another server listens" in done.stderr
    assert client(served).ping()


def test_the_socket_of_a_dead_server_is_replaced_and_a_file_is_not(serve: Callable[..., Served]) -> None:
    served = serve()
    served.end(signal.SIGKILL)
    assert client(serve()).ping()
    file = served.directory / "file.sock"
    file.write_text("precious")
    done = ended("--dir", str(served.directory), "serve", "served", "--socket", str(file))
    assert done.returncode == 2 and "no socket" in done.stderr and file.read_text() == "precious"
