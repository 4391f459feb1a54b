"""Who gets in among memcached's clients, and what a stranger may have."""

from __future__ import annotations

import select
from collections.abc import Callable
from pathlib import Path

import pytest
from pymemcache.client.base import Client

from .conftest import SECONDS, ended, wait_for
from .memcached import Place, read_until


def test_a_password_is_asked_for_before_anything_else(place_with: Callable[..., Place], directory: Path) -> None:
    """Nothing is told or done before the first `set` has the user and the password."""
    for name, secret in (("password", "s3cret"), ("reader", "look")):
        (directory / name).write_text(secret)
        (directory / name).chmod(0o600)
    place = place_with(
        "--password-file", str(directory / "password"), "--reader-password-file", str(directory / "reader")
    )
    refused = b"CLIENT_ERROR unauthenticated\r\n"
    with place.connect() as link:

        def ask(request: bytes) -> bytes:
            link.sendall(request)
            return read_until(link, b"\r\n")

        assert ask(b"get k\r\n") == refused and ask(b"version\r\n") == refused and ask(b"\r\n") == refused
        assert ask(b"set k 0 0 13\r\ndefault wrong\r\n") == b"CLIENT_ERROR authentication failure\r\n"
        assert ask(b"set k 0 0 3\r\none\r\n") == b"CLIENT_ERROR bad authentication token format\r\n"
        assert ask(b"set k 0 0 5000\r\n") == b"CLIENT_ERROR auth token too long\r\n"
        link.sendall(b"x" * 5002)
        assert ask(b"get k\r\n") == refused
        assert ask(b"set k 0 0 14\r\ndefault s3cret\r\n") == b"STORED\r\n"
        assert ask(b"get k\r\n") == b"END\r\n"
        assert ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
    with place.connect() as link:
        link.sendall(b"set k 0 0 11\r\nreader look\r\nget k\r\nset k 0 0 1\r\n2\r\nmg k v N1\r\ngat 1 k\r\nflush_all\r\nmn\r\n")
        denied = b"CLIENT_ERROR user reader may change nothing\r\n"
        wanted = b"STORED\r\nVALUE k 0 1\r\n1\r\nEND\r\n" + 4 * denied + b"MN\r\n"
        assert read_until(link, b"MN\r\n") == wanted


def test_an_address_of_the_network_needs_a_password_or_the_word_of_its_owner(place_with: Callable[..., Place]) -> None:
    """Any user of the host reaches the loopback."""
    refused = ended("serve", "never", "--memcached-bind", "127.0.0.1:0")
    assert refused.returncode != 0 and "--memcached-bind" in refused.stderr and "password_file" in refused.stderr
    place = place_with("--memcached-bind", "127.0.0.1:0", "--no-auth")
    address = next(where for where in place.served.places if where.startswith("127.0.0.1:"))
    client = Client(("127.0.0.1", int(address.rsplit(":", 1)[1])), timeout=SECONDS)
    assert client.set("k", b"1", noreply=False) and client.get("k") == b"1"


def secret(directory: Path, password: str) -> str:
    """The path of a file with a password."""
    path = directory / "password"
    path.write_text(password)
    path.chmod(0o600)
    return str(path)


def test_a_password_may_have_blanks(place_with: Callable[..., Place], directory: Path) -> None:
    """The name ends at the first blank; the rest is the password."""
    place = place_with("--password-file", secret(directory, "correct horse  battery"))
    right = b"default correct horse  battery"
    for said, wanted in ((right[:-1], b"CLIENT_ERROR authentication failure\r\n"), (right, b"STORED\r\n")):
        assert place.ask(b"set k 0 0 %d\r\n%s\r\n" % (len(said), said), b"\r\n") == wanted


@pytest.mark.parametrize("word", [b"get", b"gat 1", b"x"])
def test_a_stranger_ends_with_a_line_that_is_longer_than_a_login(
    place_with: Callable[..., Place], directory: Path, word: bytes
) -> None:
    """Who has not said the password cannot have the server keep a line of megabytes."""
    place = place_with("--password-file", secret(directory, "s3cret"))
    with place.connect() as link:
        link.sendall(word + b" k" * 1023)
        # All of it was taken, and may be longer: the answer to another client comes behind.
        assert place.ask(b"mn\r\n", b"\r\n") == b"CLIENT_ERROR unauthenticated\r\n"
        link.sendall(b" k" * 1023)
        assert read_until(link, b"never") == b""


def test_strangers_go_before_who_said_the_password(place_with: Callable[..., Place], directory: Path) -> None:
    """Where all together keep too much, a client that is known keeps its request, the largest of all."""
    place = place_with("--password-file", secret(directory, "s3cret"), "--buffers-bytes", "16MiB")
    size = 14 << 20
    with place.connect() as known:
        known.sendall(b"set k 0 0 14\r\ndefault s3cret\r\nset k 0 0 %d\r\n" % size + b"x" * (size - 1))
        assert read_until(known, b"\r\n") == b"STORED\r\n"
        strangers = [place.connect() for _ in range(500)]
        for link in strangers:
            link.sendall(b"get" + b" k" * 1000)
        ended, _, _ = select.select([known, *strangers], [], [], SECONDS)
        assert ended and known not in ended
        known.sendall(b"x\r\nmn\r\n")
        assert read_until(known, b"MN\r\n") == b"STORED\r\nMN\r\n"
        for link in strangers:
            link.close()


def test_wrong_passwords_do_not_fill_the_log(place_with: Callable[..., Place], directory: Path) -> None:
    """A record says how many it stands for; the counter has them all."""
    place = place_with("--password-file", secret(directory, "s3cret"))
    tries = 500
    with place.connect() as link:
        link.sendall(b"set k 0 0 13\r\ndefault wrong\r\n" * tries + b"set k 0 0 14\r\ndefault s3cret\r\nstats\r\n")
        stats = read_until(link, b"END\r\n")
    assert stats.count(b"authentication failure") == tries and b"STAT auth_errors %d\r\n" % tries in stats
    wait_for(lambda: "a wrong password" in place.served.log())
    place.served.end()
    assert 1 <= place.served.log().count("a wrong password") < 10
