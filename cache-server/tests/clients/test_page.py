"""The page in a browser: what it shows, what it does, and that anybody can use it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from pycache import Cache

from .browser import as_large, as_phone, browser, prefer
from .conftest import Served, need, wait_for
from .test_http import TOKEN, in_network

Serve = Callable[..., Served]


@pytest.fixture(scope="module")
def window() -> Iterator[Chrome]:
    """One browser for all tests."""
    with browser(need("chromium"), need("chromedriver")) as chrome:
        yield chrome


@pytest.fixture
def opened(window: Chrome, serve: Serve, directory: Path) -> Iterator[tuple[Chrome, Served, str, Cache]]:
    """The page of a server in whose region something happens, as a browser shows it that said the token."""
    served, url = in_network(serve, directory, "--http-writes")
    with Cache(served.region, dir=served.directory) as cache:
        with redis.Redis(unix_socket_path=served.path) as client:
            for number in range(2000):
                cache[f"key{number}"] = b"x" * 1000
                client.get(f"key{number * 2}")
        cache.namespace("users").set("user:7", "Ada", ttl=600)
        as_large(window)
        window.get(f"{url}/?token={TOKEN}")
        wait_for(lambda: "sets" in rows(window))
        yield window, served, url, cache
        window.delete_all_cookies()


def rows(window: Chrome) -> dict[str, list[float | None]]:
    """What the page knows, by column."""
    columns = "Object.fromEntries(Object.entries(at).map(([name, index]) => [name, rows.map(row => row[index])]))"
    return window.execute_script(f"return typeof at === 'undefined' ? {{}} : {columns}")


def text(window: Chrome, selector: str) -> str:
    """What is read there, in one step: each second the page is drawn anew."""
    return window.execute_script("return document.querySelector(arguments[0]).innerText.trim()", selector)


def test_the_page_shows_what_happens(opened: tuple[Chrome, Served, str, Cache]) -> None:
    window, served, url, cache = opened
    assert window.current_url == f"{url}/", "the token stays in no history"
    assert window.title == "served – cache-shm" and text(window, "h1") == "served"
    wait_for(lambda: "2,001" in text(window, "#tiles"))
    assert "half within" in text(window, "#plots") and len(window.find_elements(By.CSS_SELECTOR, "#plots figure")) == 8
    wait_for(lambda: len(rows(window)["sets"]) >= 3)
    path = "return document.querySelector('#plots figure > svg path.a').getAttribute('d')"
    wait_for(lambda: cache.get("key1") and "L" in window.execute_script(path))
    wait_for(lambda: {line.split()[0] for line in text(window, "#processes").splitlines()} >= {str(served.process.pid)})
    assert "users" in text(window, "#spaces") and "free" in text(window, "#memory-legend")
    assert "64 MiB" in text(window, "#tiles")


def test_a_reload_keeps_the_plots(opened: tuple[Chrome, Served, str, Cache]) -> None:
    window, *_ = opened
    wait_for(lambda: len(rows(window)["sets"]) >= 3)
    before = rows(window)["unix_ms"]
    window.refresh()
    wait_for(lambda: set(before) <= set(rows(window).get("unix_ms", [])))


def test_nothing_comes_from_elsewhere_and_nothing_is_complained_about(opened: tuple[Chrome, Served, str, Cache]) -> None:
    window, _, url, _ = opened
    names = window.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len(names) >= 3 and all(name.startswith((url, "data:")) for name in names)
    assert [entry for entry in window.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_plots_and_cells_are_read_with_the_keyboard(opened: tuple[Chrome, Served, str, Cache]) -> None:
    window, *_ = opened
    wait_for(lambda: len(rows(window)["sets"]) >= 4)
    plot = window.find_element(By.CSS_SELECTOR, "#plots figure svg")
    assert plot.get_attribute("aria-label").startswith("Hit ratio. Now:")
    says = "#plots figure output"
    assert text(window, says).startswith("now:")
    plot.send_keys(Keys.HOME)
    first = text(window, says)
    assert not first.startswith("now:")
    plot.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert text(window, says).split(" ")[0] != first.split(" ")[0]
    plot.send_keys(Keys.ESCAPE)
    assert text(window, says).startswith("now:")
    heat = window.find_element(By.ID, "heat")
    heat.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert text(window, "#heat-says").startswith("Segment 1:")
    assert window.execute_script("return document.activeElement.id") == "heat"


def test_everything_that_is_filled_in_has_a_label(opened: tuple[Chrome, Served, str, Cache]) -> None:
    window, *_ = opened
    unlabelled = "return [...document.querySelectorAll('input, select')].filter(one => !one.labels.length).map(one => one.id)"
    assert window.execute_script(unlabelled) == []
    unnamed = "return [...document.querySelectorAll('[role=img]')].filter(one => !one.ariaLabel && !one.getAttribute('aria-labelledby'))"
    assert window.execute_script(unnamed) == []
    levels = window.execute_script("return [...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    assert window.execute_script("return document.documentElement.lang") == "en"


def look_up(window: Chrome, key: str, namespace: str = "", *, is_hex: bool = False) -> None:
    for field, value in [("key", key), ("namespace", namespace)]:
        element = window.find_element(By.ID, field)
        element.clear()
        element.send_keys(value)
    box = window.find_element(By.ID, "hex")
    if box.is_selected() != is_hex:
        box.click()
    window.execute_script("document.getElementById('answer').textContent = ''")
    window.find_element(By.ID, "key").send_keys(Keys.ENTER)
    wait_for(lambda: text(window, "#answer"))


def test_a_key_is_looked_up_and_deleted(opened: tuple[Chrome, Served, str, Cache]) -> None:
    window, _, _, cache = opened
    look_up(window, "user:7", "users")
    assert text(window, "#answer") == "Found." and text(window, "#value") == "Ada"
    facts = text(window, "#facts")
    assert "str" in facts and "min" in facts and "users" in facts
    Select(window.find_element(By.ID, "form")).select_by_value("hex")
    assert text(window, "#value") == "41 64 61"
    look_up(window, b"user:7".hex(), "users", is_hex=True)
    assert text(window, "#answer") == "Found."
    button = window.find_element(By.ID, "delete")
    button.click()
    assert "again" in button.text and cache.namespace("users")["user:7"] == "Ada"
    button.click()
    wait_for(lambda: text(window, "#answer") == "Deleted.")
    assert "user:7" not in cache.namespace("users")
    look_up(window, "user:7", "users")
    assert text(window, "#answer") == "There is no such key." and not window.find_element(By.ID, "found").is_displayed()


def test_what_is_stored_is_shown_as_text_whatever_it_is(opened: tuple[Chrome, Served, str, Cache]) -> None:
    window, _, _, cache = opened
    cache["<b>bold</b>"] = "<script>document.title = 'no'</script>"
    look_up(window, "<b>bold</b>")
    assert text(window, "#value") == "<script>document.title = 'no'</script>" and "<b>bold</b>" in text(window, "#facts")
    assert window.title == "served – cache-shm"
    cache["bytes"] = b"\xff\x00a"
    look_up(window, "bytes")
    assert "a" in text(window, "#value")
    cache["large"] = b"x" * (2 << 20)
    look_up(window, "large")
    assert "too large" in text(window, "#value") and "2,097,152" in text(window, "#facts")


def test_numbers_and_constants_are_shown_as_python_writes_them(opened: tuple[Chrome, Served, str, Cache]) -> None:
    """A browser takes a number of JSON for a float, and 9007199254740993 was shown as ...992, 1.0 as 1."""
    window, _, _, cache = opened
    for value in [9007199254740993, -(2**63), 1.0, 0.1, None, True, False, "9", b"9"]:
        cache["value"] = value
        look_up(window, "value")
        assert text(window, "#value") == (value.decode() if isinstance(value, bytes) else str(value))


def test_the_page_fits_a_phone_and_both_schemes_of_colours(opened: tuple[Chrome, Served, str, Cache]) -> None:
    window, *_ = opened
    as_phone(window)
    wait_for(lambda: window.execute_script("return innerWidth") == 360)
    assert window.execute_script("return document.documentElement.scrollWidth") <= 360
    ground = "return getComputedStyle(document.body).backgroundColor"
    prefer(window, "light")
    light = window.execute_script(ground)
    prefer(window, "dark")
    wait_for(lambda: window.execute_script(ground) != light)
    dark = window.execute_script(ground)
    prefer(window, "light")
    wait_for(lambda: window.execute_script(ground) == light)
    Select(window.find_element(By.ID, "theme")).select_by_value("dark")
    assert window.execute_script(ground) == dark
    window.refresh()
    wait_for(lambda: window.execute_script(ground) == dark)
    Select(window.find_element(By.ID, "theme")).select_by_value("auto")


def test_a_server_that_is_gone_is_told_and_what_was_known_stays(opened: tuple[Chrome, Served, str, Cache]) -> None:
    window, served, *_ = opened
    wait_for(lambda: text(window, "#tiles"))
    assert not window.find_element(By.ID, "trouble").is_displayed()
    served.end(signal.SIGKILL)
    wait_for(lambda: "does not answer" in text(window, "#trouble"))
    assert text(window, "#tiles")
    # The failed requests are what the browser complains about.
    window.get_log("browser")
