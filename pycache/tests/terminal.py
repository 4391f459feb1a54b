"""A command in a terminal of its own: what is on its screen, and which keys are pressed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType

import pyte

# A test that waits longer has failed.
PATIENCE_S = 30.0
# The rate of input, which a pseudo-terminal does not have; the kernel fills it in when modes are set.
CIBAUD = 0x100F0000


class Terminal:
    """Runs a command in a pseudo-terminal and keeps its screen."""

    def __init__(self, command: Sequence[str], *, columns: int = 100, lines: int = 40, **environment: str) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._mine, theirs = pty.openpty()
        self._resize(columns, lines)
        # Kept open, so that the modes can be asked for when the command has ended.
        self._theirs = theirs
        self._modes_before = self._modes()
        without = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**without, "TERM": "xterm-256color", **environment},
        )

    def _modes(self) -> list[object]:
        modes = termios.tcgetattr(self._theirs)
        return [*modes[:2], modes[2] & ~CIBAUD, *modes[3:]]

    def _resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._mine, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        """Gives the terminal another size, as a window does."""
        self.screen.resize(lines, columns)
        self._resize(columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        """Presses keys: text; an arrow is ``\\x1b[A`` and so on."""
        os.write(self._mine, keys.encode())

    def read(self, wait_s: float = 0.05) -> None:
        """Takes in what the command has written, waiting at most so long for more."""
        while select.select([self._mine], [], [], wait_s)[0]:
            try:
                more = os.read(self._mine, 1 << 16)
            except OSError:
                return
            self.raw += more
            self._stream.feed(more)
            wait_s = 0.0

    @property
    def text(self) -> str:
        """The screen's lines."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def until(self, condition: Callable[[str], bool]) -> str:
        """Waits until the screen is as wanted and returns it; fails after :data:`PATIENCE_S`."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self.read()
            if condition(self.text):
                return self.text
        raise AssertionError(f"not seen within {PATIENCE_S} s; the screen is:\n{self.text}")

    def end(self) -> int:
        """Waits until the command has ended; its exit code, negative for a signal."""
        deadline = time.monotonic() + PATIENCE_S
        while (code := self.process.poll()) is None:
            assert time.monotonic() < deadline, f"still running; the screen is:\n{self.text}"
            self.read()
        self.read()
        return code

    def until_stopped(self) -> None:
        """Waits until a signal has stopped the command, and takes in what it wrote before."""
        deadline = time.monotonic() + PATIENCE_S
        while os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is None:
            assert time.monotonic() < deadline, f"still running; the screen is:\n{self.text}"
            self.read()
        self.read()

    def is_restored(self) -> bool:
        """The terminal's modes are what they were, the cursor is shown, the other screen is left."""
        # Mode 1049 is the alternate screen; pyte does not know it.
        left = self.raw.rfind(b"\x1b[?1049l") >= self.raw.rfind(b"\x1b[?1049h")
        return left and not self.screen.cursor.hidden and self._modes() == self._modes_before

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(PATIENCE_S)
        os.close(self._mine)
        os.close(self._theirs)
