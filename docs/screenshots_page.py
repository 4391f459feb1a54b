"""Takes the pictures of the server's page for the docs: `make screenshots`.

A server of its own, a minute of traffic from Python and from Redis clients, and the page as a
headless browser shows it: light, dark, and on a phone.
"""

import functools
import importlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
IMAGES = TREE / "docs" / "images"
SECONDS = 62

sys.path.insert(0, str(TREE / "cache-server" / "tests"))


def work(directory: str, stopping: threading.Event) -> None:
    """Reads and writes as a web application might, until it is told to stop."""
    import redis
    from pycache import Cache

    draw = random.Random(7)
    cache = Cache("shop", dir=directory)
    spaces = [(cache.namespace(name), share) for name, share in [("pages", 6), ("users", 3), ("prices", 1)]]
    client = redis.Redis(unix_socket_path=f"{directory}/shop.sock")
    turn = 0
    while not stopping.wait(0.01):
        turn += 1
        busy = 1 + (turn // 600) % 2
        for space, share in spaces:
            for _ in range(15 * share * busy):
                key = f"item:{int(draw.paretovariate(0.7)) % 90_000}"
                if space.get(key) is None:
                    space.set(key, b"x" * draw.randrange(200, 4000), ttl=draw.choice([None, 30, 300]))
        for _ in range(20):
            client.get(f"session:{draw.randrange(1000)}")
        client.set(f"session:{draw.randrange(1000)}", b"y" * 500, ex=60)
    cache.close()


def main() -> int:
    chromium, driver, command = (shutil.which(name) for name in ("chromium", "chromedriver", "cache-shm"))
    if not (chromium and driver and command):
        print("missing: chromium and chromium-driver: apt-get install chromium chromium-driver", file=sys.stderr)
        return 1
    of_tests = importlib.import_module("clients.browser")
    directory = tempfile.mkdtemp(prefix="cache-shm-page-", dir="/dev/shm")
    token = Path(directory) / "token"
    token.write_text("picture")
    token.chmod(0o600)
    flags = ["--size", "16MiB", "--http-bind", "127.0.0.1:0", "--http-token-file", str(token)]
    server = subprocess.Popen(
        [command, "--dir", directory, "serve", "shop", *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    stopping = threading.Event()
    worker = threading.Thread(target=work, args=(directory, stopping))
    try:
        address = server.stdout.readline().split()[-1]
        worker.start()
        # The pictures are of a time in which something happened.
        stopping.wait(SECONDS)
        with of_tests.browser(chromium, driver) as window:
            window.get(f"http://{address}/?token=picture")
            window.execute_script("document.getElementById('range').value = '60'; look()")
            large = functools.partial(of_tests.as_large, height=1700)
            for name, scheme, size in [
                ("light", "light", large),
                ("dark", "dark", large),
                ("phone", "light", of_tests.as_phone),
            ]:
                size(window)
                of_tests.prefer(window, scheme)
                # Drawn anew in this size, with what is known a second later.
                window.execute_async_script("const done = arguments[0]; setTimeout(() => look().then(done), 1100)")
                (IMAGES / f"page-{name}.png").write_bytes(window.get_screenshot_as_png())
                print(f"docs/images/page-{name}.png")
    finally:
        stopping.set()
        if worker.ident is not None:
            worker.join()
        server.terminate()
        server.wait(20)
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
