"""What holds where a server runs as a service and in containers."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import redis
import yaml

from pycache import Cache

from .conftest import SECONDS, Served, command, ended, leave_out, need, wait_for

DEPLOY = Path(__file__).parents[3] / "examples" / "deploy"


def test_a_service_manager_is_told_when_clients_can_connect_and_when_it_ends(
    serve: Callable[..., Served], directory: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(SECONDS)
        manager.bind(str(directory / "notify"))
        served = serve(NOTIFY_SOCKET=str(directory / "notify"))
        assert manager.recv(1000).startswith(b"READY=1")
        assert redis.Redis(unix_socket_path=served.path).ping()
        assert served.end() == 0
        assert manager.recv(1000).startswith(b"STOPPING=1")


def test_a_service_manager_waits_while_a_snapshot_is_restored_and_the_last_one_written(
    serve: Callable[..., Served], directory: Path
) -> None:
    flags = ["--snapshot-file", str(directory / "snapshot"), "--snapshot-at-end", "--restore"]
    served = serve(*flags)
    with Cache(served.region, dir=served.directory) as cache:
        cache["a"] = 1
        assert served.end() == 0
        cache.destroy()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(SECONDS)
        manager.bind(str(directory / "notify"))
        served = serve(*flags, NOTIFY_SOCKET=str(directory / "notify"))

        def told() -> tuple[int, bytes]:
            # A slow machine asks for time more than once.
            asked = 0
            while (words := manager.recv(1000)).startswith(b"EXTEND_TIMEOUT_USEC="):
                asked += 1
            return asked, words

        asked, words = told()
        assert asked >= 1 and words.startswith(b"READY=1")
        assert served.end() == 0
        for words in [b"STOPPING=1", b"EXTEND_TIMEOUT_USEC="]:
            assert manager.recv(1000).startswith(words)


def flags_of_serve() -> set[str]:
    done = ended("serve", "--help")
    assert done.returncode == 0, done.stderr
    text = done.stdout
    return set(re.findall(r"--[a-z-]+", text))


def test_the_unit_is_well_formed_and_its_command_exists() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(DEPLOY / "cache-shm@.service")
    service = unit["Service"]
    assert service["Type"] == "notify" and "MAINPID" in service["ExecReload"]
    program, command, *words = shlex.split(service["ExecStart"])
    assert (Path(program).name, command) == ("cache-shm", "serve")
    assert {word for word in words if word.startswith("--")} <= flags_of_serve()
    # Beside the directories of sockets and regions there is one that is writable, for snapshots.
    option, file = service["Environment"].split("=")
    assert Path(file).parent == Path("/var/lib") / service["StateDirectory"] and "%i" in Path(file).name
    done = ended("serve", "r", "--check", **{option: "no path", "CACHE_SHM_CONFIG": ""})
    assert done.returncode == 2 and option in done.stderr


def test_the_unit_lets_the_group_in_that_its_comment_names(directory: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(DEPLOY / "cache-shm@.service")
    *words, place = shlex.split(unit["Service"]["ExecStartPre"])
    assert f"Environment=CACHE_SHM_DIR={place}" in (DEPLOY / "cache-shm@.service").read_text().splitlines()
    subprocess.run([*words, str(directory / "regions")], check=True, timeout=SECONDS)
    made = (directory / "regions").stat()
    assert made.st_mode & 0o7777 == 0o2770
    with Cache("team", dir=directory / "regions", size="1MiB", mode=0o660, group=made.st_gid) as cache:
        file = Path(str(cache.path)).stat()
        assert (file.st_mode & 0o777, file.st_gid) == (0o660, made.st_gid)


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes.yaml"])
def test_the_files_of_containers_are_well_formed_and_their_flags_exist(name: str) -> None:
    content = yaml.safe_load((DEPLOY / name).read_text())
    if name == "compose.yaml":
        (command,) = (service["command"] for service in content["services"].values() if "command" in service)
        assert set(content["services"]["cache"]["volumes"]) == {"shared:/shared"} and "shared" in content["volumes"]
    else:
        (command,) = (each["args"] for each in content["spec"]["containers"] if "args" in each)
        assert content["spec"]["volumes"][0]["emptyDir"]["medium"] == "Memory"
    assert {word for word in command if word.startswith("--")} <= flags_of_serve()


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes.yaml"])
def test_the_probe_asks_the_server_and_not_the_region(serve: Callable[..., Served], name: str) -> None:
    content = yaml.safe_load((DEPLOY / name).read_text())
    if name == "compose.yaml":
        services = content["services"]
        _, program, *words = services["cache"]["healthcheck"]["test"]
        # The server makes the region, which it knows the size of.
        assert services["app"]["depends_on"] == {"cache": {"condition": "service_healthy"}}
    else:
        (probe,) = (each["readinessProbe"] for each in content["spec"]["containers"] if "readinessProbe" in each)
        program, *words = probe["exec"]["command"]
        # Either container makes the region, whichever comes first.
        size = {"name": "CACHE_SHM_SIZE", "value": "512MiB"}
        assert all(size in each["env"] for each in content["spec"]["containers"])
    assert program == "python"
    served = serve()
    asked = [sys.executable, *(word.replace("/shared/sessions.sock", served.path) for word in words)]
    assert served.path in asked[-1]

    def answered() -> bool:
        return subprocess.run(asked, stderr=subprocess.DEVNULL, timeout=SECONDS, check=False).returncode == 0

    assert answered()
    served.end()
    assert (served.directory / served.region).exists() and not answered()


def containers() -> list[str]:
    """What gives a program namespaces of its own for users, processes, mounts, IPC and the host's name."""
    unshare = [need("unshare"), "--pid", "--fork", "--mount-proc", "--mount", "--ipc", "--uts", "--kill-child"]
    if os.geteuid() != 0:
        # As containers without root do it.
        unshare += ["--user", "--map-root-user"]
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True, timeout=SECONDS, check=False)
    if tried.returncode != 0:
        leave_out(f"this system lets this user make no namespaces: {tried.stderr.strip()}")
    return unshare


def isolated(script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """A shell script in a container."""
    return subprocess.Popen(
        [*containers(), "sh", "-ec", script, "sh", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CACHE_SHM_CONFIG": "", **variables},
    )


def test_a_server_in_one_container_and_programs_in_others_share_a_region(directory: Path) -> None:
    # Each mounts the shared directory over its own /dev/shm, as a volume.
    script = 'mount --bind "$1" /mnt && mkdir -p -m 700 /mnt/regions && shift && exec "$@"'
    place = {"CACHE_SHM_DIR": "/mnt/regions"}
    flags = ["serve", "shared", "--size", "16MiB", "--socket", "/mnt/s.sock"]
    server = isolated(script, str(directory), command(), *flags, **place)
    program = isolated(
        script,
        str(directory),
        sys.executable,
        "-c",
        "import os, sys, time; from pycache import Cache\n"
        "cache = Cache('shared'); cache['from'] = 'container'; lock = cache.lock('held'); lock.acquire()\n"
        "print(os.getpid(), flush=True); sys.stdin.read(); time.sleep(600)",
        **place,
    )
    try:
        assert server.stdout is not None and program.stdout is not None
        assert "is served at /mnt/s.sock" in server.stdout.readline()
        # In its own namespace it is one of the first processes.
        assert int(program.stdout.readline()) < 100
        client = redis.Redis(unix_socket_path=str(directory / "s.sock"), socket_timeout=SECONDS)
        assert client.get("from") == b"container"
        client.set("from", "server")
        with Cache("shared", dir=str(directory / "regions")) as cache:
            assert cache["from"] == b"server"
            lock = cache.lock("held")
            assert not lock.acquire(blocking=False)
            # The whole container goes, and with it what it held.
            program.send_signal(signal.SIGKILL)
            assert lock.acquire(timeout=SECONDS)
            server.send_signal(signal.SIGKILL)
            server.wait(SECONDS)
            cache["from"] = "outside"
            assert cache["from"] == "outside"
    finally:
        for process in (server, program):
            process.kill()
            process.wait(SECONDS)


def test_the_region_is_there_after_a_restart_of_the_server(serve: Callable[..., Served]) -> None:
    served = serve()
    redis.Redis(unix_socket_path=served.path).set("k", "v")
    assert served.end(signal.SIGINT) == 0
    again = serve()
    wait_for(lambda: redis.Redis(unix_socket_path=again.path).get("k") == b"v")


def test_a_snapshot_is_written_where_there_is_no_proc(directory: Path) -> None:
    # A file without a name gets one by way of /proc: each snapshot failed when it was whole.
    script = 'mount -t tmpfs none /proc; "$1" create r; "$1" set r k v; "$1" dump r "$2"'
    variables = {"CACHE_SHM_DIR": str(directory), "CACHE_SHM_SIZE": "2MiB"}
    with isolated(script, command(), str(directory / "snapshot"), **variables) as dump:
        assert dump.wait(SECONDS) == 0
    assert (directory / "snapshot").stat().st_mode & 0o777 == 0o600
    done = ended("--dir", str(directory), "restore", "new", str(directory / "snapshot"), "--create", "--json")
    assert done.returncode == 0 and '"stored":1' in done.stdout.replace(" ", ""), done
    assert {path.name for path in directory.iterdir()} == {"r", "new", "snapshot"}


def test_a_snapshot_that_is_told_as_failed_was_not_written(directory: Path) -> None:
    # Its directory was opened to sync it when the snapshot had its name already.
    place = directory / "place"
    place.mkdir()
    file = place / "snapshot"
    file.write_bytes(b"the last one")
    # What is in it cannot be listed, but files can be made and replaced.
    place.chmod(0o300)
    # Nor by root, if it has not the right to pass over permissions.
    rights = "-dac_override,-dac_read_search"
    alike = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []
    tried = [*alike, command(), "--dir", str(directory)]
    run = partial(subprocess.run, capture_output=True, text=True, timeout=SECONDS, check=False)
    created = run([*tried, "create", "r", "--size", "2MiB"])
    assert created.returncode == 0, created.stderr
    done = run([*tried, "dump", "r", str(file)])
    assert done.returncode == 2 and str(file) in done.stderr
    place.chmod(0o700)
    assert file.read_bytes() == b"the last one"
    assert list(place.iterdir()) == [file]
