"""Options that no argument gives: from the environment, else from a file, else the default."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pycache import (
    BadSignature,
    Cache,
    InvalidArgument,
    InvalidConfig,
    RegionPermission,
    SizeMismatch,
    UnsupportedType,
    regions,
)
from pycache._pycache import encode

SECRET = "sixteen bytes or more"

Configure = Callable[[str], Path]


@pytest.fixture
def configure(directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Writes the file of options; regions are in a directory of the test."""
    monkeypatch.setenv("CACHE_SHM_DIR", directory)
    path = tmp_path / "options.toml"
    monkeypatch.setenv("CACHE_SHM_CONFIG", str(path))

    def configure(text: str) -> Path:
        path.write_text(text)
        return path

    configure("")
    return configure


def test_a_variable_that_is_no_option_is_told_once(configure: Configure) -> None:
    script = (
        "import logging; logging.basicConfig(format='%(levelname)s %(name)s %(message)s')\n"
        "from pycache import Cache\n"
        "for _ in range(2): Cache(None, size='2MB')\n"
    )
    environment = os.environ | {"CACHE_SHM_EVICTION": "false", "CACHE_SHM_EVICT": "false"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env=environment)
    [line] = done.stderr.splitlines()
    assert line.startswith("WARNING pycache no option of the cache") and ": CACHE_SHM_EVICTION in" in line
    assert "CACHE_SHM_EVICT," in line and "CACHE_SHM_CONFIG" in line


def test_arguments_stand_before_the_environment_the_region_the_default_section_and_the_library(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Cache("library", size="2MiB").default_ttl is None
    configure('[default]\nsize = "3MiB"\nttl = 1\n[region.named]\nttl = "2s"\n')
    assert (Cache("other").size, Cache("other").default_ttl) == (3 << 20, 1)
    assert (Cache("named").size, Cache("named").default_ttl) == (3 << 20, 2)
    monkeypatch.setenv("CACHE_SHM_TTL", "3")
    assert (Cache("other").default_ttl, Cache("named").default_ttl) == (3, 3)
    assert Cache("named", ttl=4).default_ttl == 4
    assert Cache("named", ttl=None).default_ttl is None
    monkeypatch.setenv("CACHE_SHM_TTL", "none")
    assert Cache("named").default_ttl is None
    monkeypatch.setenv("CACHE_SHM_TTL", "")
    assert Cache("named").default_ttl == 2


def test_every_option_of_the_constructor_can_be_configured(configure: Configure, directory: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    configure(
        f"""
        [default]
        size = 2097152
        timeout = 0.25
        evict = false
        mode = "640"
        group = {os.getgid()}
        serializer = "json"
        compress = "zlib"
        compress_min = "2KiB"
        secret_file = "{secret}"
        on_mismatch = "error"
        [region.seen]
        read_only = true
        """
    )
    cache = Cache("all")
    assert cache.path == str(Path(directory, "all"))
    assert (cache.size, cache.timeout) == (2 << 20, 0.25)
    assert os.stat(cache.path).st_mode & 0o777 == 0o640
    cache["a"] = {"json": [1]}
    assert Cache("all", secret=SECRET, serializer="json")["a"] == {"json": [1]}
    with pytest.raises(BadSignature):
        Cache("all", secret=None)["a"]
    with pytest.raises(SizeMismatch):
        Cache("all", size="3MiB")
    # What was given as None is a choice.
    with pytest.raises(UnsupportedType):
        Cache("all", serializer=None)["b"] = object()
    with pytest.raises(FileNotFoundError):
        Cache("seen")


def test_a_region_that_is_configured_as_ephemeral_goes_with_its_last_handle(configure: Configure) -> None:
    configure('[default]\nephemeral = true\n')
    Cache("short", size="2MiB").close()
    assert regions() == []
    Cache("long", size="2MiB", ephemeral=False).close()
    assert [region.name for region in regions()] == ["long"]


def test_a_private_region_is_writable_whatever_is_configured(configure: Configure) -> None:
    configure('[default]\nread_only = true\nsize = "2MiB"\n')
    cache = Cache(None)
    cache["a"] = 1
    assert (cache["a"], cache.size, cache.read_only) == (1, 2 << 20, False)


def test_a_mistake_names_the_file_the_line_the_option_and_what_is_allowed(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = configure('[default]\nsize = "2MiB"\n\n[region.another]\nevict = "sometimes"\n')
    with pytest.raises(InvalidConfig) as caught:
        Cache("mine")
    assert f'{path}:5: evict = "sometimes"' in str(caught.value) and "true or false" in str(caught.value)
    assert caught.value.code == "invalid_config" and isinstance(caught.value, ValueError)
    configure("[default]\n")
    monkeypatch.setenv("CACHE_SHM_TIMEOUT", "soon")
    with pytest.raises(InvalidConfig, match="CACHE_SHM_TIMEOUT.*seconds"):
        Cache("mine")


def test_neither_pickle_nor_a_secret_can_be_configured(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure('[default]\nserializer = "pickle"\n')
    with pytest.raises(InvalidConfig, match="argument"):
        Cache("mine")
    configure(f'[default]\nsecret = "{SECRET}"\n')
    with pytest.raises(InvalidConfig, match="secret_file") as caught:
        Cache("mine")
    assert SECRET not in str(caught.value)
    configure("")
    monkeypatch.setenv("CACHE_SHM_SECRET", SECRET)
    with pytest.raises(InvalidConfig, match="CACHE_SHM_SECRET_FILE") as caught:
        Cache("mine")
    assert SECRET not in str(caught.value)


def test_a_file_that_others_can_write_to_is_refused(configure: Configure) -> None:
    configure("").chmod(0o666)
    with pytest.raises(RegionPermission, match="others may write"):
        Cache("mine")


def test_a_secret_from_a_file_is_not_in_a_pickled_handle(configure: Configure, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    cache = Cache("signed", size="2MiB", secret_file=secret)
    cache["a"] = 1
    pickled = pickle.dumps(cache)
    assert SECRET.encode() not in pickled and str(secret).encode() in pickled
    assert pickle.loads(pickled)["a"] == 1
    assert Cache("signed", secret=SECRET)["a"] == 1
    with pytest.raises(InvalidArgument):
        Cache("signed", secret=SECRET, secret_file=secret)


def test_a_pickled_handle_is_what_it_was_whatever_is_configured_where_it_is_unpickled(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled = pickle.dumps(Cache("plain", size="2MiB"))
    for name, value in {"TTL": "5", "SERIALIZER": "json", "COMPRESS": "zlib", "DIR": "/dev/shm"}.items():
        monkeypatch.setenv(f"CACHE_SHM_{name}", value)
    cache = pickle.loads(pickled)
    assert cache.default_ttl is None and cache.size == 2 << 20
    cache["long"] = text = "x" * 5000
    assert encode(text)[0] == 2 and cache.view("long") is not None, "neither compressed"
    with pytest.raises(UnsupportedType):
        cache["object"] = object()


def test_importing_the_module_reads_no_configuration() -> None:
    environment = os.environ | {"CACHE_SHM_SIZE": "nonsense", "CACHE_SHM_CONFIG": "/nonsense"}
    subprocess.run([sys.executable, "-c", "import pycache"], env=environment, check=True, timeout=60)
