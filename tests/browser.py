"""A headless Chromium, driven over its debugging pipe (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def found() -> str | None:
    """The browser's program, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


_PLACE = """
import os, sys
reading, writing = (os.dup(int(one)) for one in sys.argv[1:3])
os.dup2(os.dup(reading), 100); os.dup2(os.dup(writing), 101)
os.dup2(100, 3); os.dup2(101, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One page of a browser."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        # What the page has written to its console, and what it threw.
        self.told: list[str] = []
        self.requests: list[str] = []

    def attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(30)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError((method, answer["error"]))
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self, seconds: float) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._reading, selectors.EVENT_READ)
            while b"\0" not in self._rest:
                assert selector.select(seconds), "the browser does not answer"
                data = os.read(self._reading, 1 << 20)
                assert data, "the browser has ended"
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        given = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.told.append(str(given["exceptionDetails"]))
        elif message.get("method") == "Runtime.consoleAPICalled":
            self.told.append(str(given["args"]))
        elif message.get("method") == "Log.entryAdded":
            self.told.append(str(given["entry"]))
        elif message.get("method") == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
        return message

    def ask(self, expression: str) -> Any:
        """What JavaScript gives."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, (expression, found["exceptionDetails"])
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 30) -> None:
        """Until an expression is true."""
        limit = time.monotonic() + seconds
        while not self.ask(f"Boolean({expression})"):
            assert time.monotonic() < limit, (expression, self.told, self.ask("document.body.innerText"))
            time.sleep(0.03)

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def key(self, name: str, code: int) -> None:
        text = {"Enter": "\r", "Tab": "\t"}.get(name, "")
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=name,
                code=name,
                windowsVirtualKeyCode=code,
                **({"text": text} if kind == "keyDown" and text else {}),
            )

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def size(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def page(program: str) -> Iterator[Page]:
    """A page of a browser of its own, without any network but this machine's."""
    read_there, write_here = os.pipe()
    read_here, write_there = os.pipe()

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        # Another process puts the pipe to where the browser looks for it: forking this one with code of ours
        # would have each library's own doings at a fork done here.
        command = [
            sys.executable, "-c", _PLACE, str(read_there), str(write_there), program,
            "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-extensions", f"--user-data-dir={home}/profile",
        ]  # fmt: skip
        process = subprocess.Popen(
            command,
            pass_fds=(read_there, write_there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": home},
        )
        os.close(read_there)
        os.close(write_there)
        try:
            opened = Page(read_here, write_here)
            opened.attach()
            yield opened
        finally:
            process.kill()
            process.wait()
            os.close(read_here)
            os.close(write_here)
