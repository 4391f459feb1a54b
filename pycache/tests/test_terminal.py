"""The command on a terminal: ``top``, and the questions that it asks."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Terminal

import pycache
from pycache import Cache

COMMAND = str(Path(sys.executable).with_name("cache-shm"))
LEFT, RIGHT, DOWN = "\x1b[D", "\x1b[C", "\x1b[B"


def command(directory: str, *arguments: str) -> list[str]:
    return [COMMAND, "--dir", directory, *arguments]


def top(directory: str, *arguments: str, columns: int = 100, lines: int = 40, **environment: str) -> Terminal:
    arguments = ("top", "test", "--interval", "100ms", *arguments)
    return Terminal(command(directory, *arguments), columns=columns, lines=lines, **environment)


def test_top_shows_what_happens_and_quits(directory: str, cache: Cache) -> None:
    users = cache.namespace("users")
    with top(directory) as terminal:
        terminal.until(lambda text: "reads/s" in text and "processes" in text)
        for number in range(2000):
            cache.set(f"key {number}", "x" * 100)
        for number in range(10_000):
            users.get(f"key {number}")
        text = terminal.until(lambda text: "2,000 items" in text and "users" in text)
        assert "memory:" in text and "[segments]" in text and "(no namespace)" in text
        terminal.press("q")
        assert terminal.end() == 0
        assert terminal.is_restored()


def test_keys_choose_the_pane_and_the_order(directory: str, cache: Cache) -> None:
    with top(directory, columns=80, lines=24) as terminal:
        terminal.until(lambda text: "[segments]" in text)
        terminal.press(RIGHT)
        terminal.until(lambda text: "[namespaces]  by gets" in text)
        terminal.press(DOWN)
        terminal.until(lambda text: "[namespaces]  by hits" in text)
        terminal.press(LEFT + LEFT)
        terminal.until(lambda text: "[processes]" in text)
        terminal.press("p")
        terminal.until(lambda text: "PAUSED" in text)
        terminal.press("p")
        terminal.until(lambda text: "PAUSED" not in text)
        terminal.resize(120, 44)
        terminal.until(lambda text: "segments" in text and "[processes]" in text)


@pytest.mark.parametrize("way", ["\x03", signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_the_terminal_is_given_back(directory: str, cache: Cache, way: str | signal.Signals) -> None:
    with top(directory) as terminal:
        terminal.until(lambda text: "reads/s" in text)
        assert not terminal.is_restored()
        if isinstance(way, str):
            terminal.press(way)
        else:
            terminal.process.send_signal(way)
        assert terminal.end() == 0
        assert terminal.is_restored()


@pytest.mark.parametrize("way", [signal.SIGTSTP, signal.SIGSTOP])
def test_the_terminal_is_given_back_while_it_is_suspended(
    directory: str, cache: Cache, way: signal.Signals
) -> None:
    with top(directory) as terminal:
        terminal.until(lambda text: "reads/s" in text)
        terminal.process.send_signal(way)
        terminal.until_stopped()
        assert terminal.is_restored() == (way == signal.SIGTSTP)
        terminal.screen.reset()
        cache["while it was suspended"] = 1
        terminal.process.send_signal(signal.SIGCONT)
        terminal.until(lambda text: "reads/s" in text and "1 items" in text)
        assert not terminal.is_restored()
        terminal.press("q")
        assert terminal.end() == 0
        assert terminal.is_restored()


def test_a_region_that_goes_and_comes_back_is_followed(directory: str) -> None:
    with Cache("test", size="4MB", dir=directory) as cache:
        cache["a"] = 1
        with top(directory) as terminal:
            terminal.until(lambda text: "1 items" in text)
            cache.close()
            pycache.destroy("test", dir=directory)
            terminal.until(lambda text: "there is no region" in text)
            with Cache("test", size="8MB", dir=directory) as again:
                again.update({"a": 1, "b": 2, "c": 3})
                text = terminal.until(lambda text: "3 items" in text)
                assert "there is no region" not in text
            terminal.press("q")
            assert terminal.end() == 0


def test_no_colour_where_none_is_wanted(directory: str, cache: Cache) -> None:
    def colours(terminal: Terminal) -> set[str]:
        terminal.until(lambda text: "processes" in text)
        return {cell.fg for line in terminal.screen.buffer.values() for cell in line.values()}

    with top(directory) as terminal:
        assert len(colours(terminal)) > 2
    with top(directory, NO_COLOR="1") as terminal:
        assert colours(terminal) == {"default"}


def test_a_region_that_was_never_there_is_an_error_and_the_terminal_stays(directory: str) -> None:
    with top(directory) as terminal:
        assert terminal.end() == 2
        assert "there is no region" in terminal.text and terminal.is_restored()


def test_without_a_terminal_one_picture_is_offered(directory: str, cache: Cache) -> None:
    run = subprocess.run(command(directory, "top", "test"), capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and "--once" in run.stderr
    once = command(directory, "top", "test", "--once", "--interval", "100ms")
    run = subprocess.run(once, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "reads/s" in run.stdout and "\x1b" not in run.stdout


@pytest.mark.parametrize("answer, is_cleared", [("y", True), ("n", False), ("", False), ("\x04", False)])
def test_a_clear_beside_others_asks(directory: str, cache: Cache, answer: str, is_cleared: bool) -> None:
    cache["a"] = 1
    with Terminal(command(directory, "clear", "test")) as terminal:
        terminal.until(lambda text: "[y/N]" in text)
        terminal.press(answer + "\n")
        assert terminal.end() == (0 if is_cleared else 2)
    assert ("a" not in cache) == is_cleared
