"""A real browser without a window, driven by the DevTools protocol: Debian's `chromium`, where it is installed."""

import base64
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from websockets.sync.client import ClientConnection, connect

from fleet import PATIENCE, wait_until

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
REASON = "no chromium is installed"
_LISTENING = re.compile(r"DevTools listening on ws://([^/]+)/")
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
)


class Page:
    """One page."""

    def __init__(self, channel: ClientConnection) -> None:
        self._channel = channel
        self._last = 0
        self.messages: list[str] = []
        """What the console said, and what failed: broken policies and scripts among it."""
        self.requests: list[str] = []
        """The addresses that were asked for."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._last += 1
        number = self._last
        self._channel.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._channel.recv(PATIENCE))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._heard(message)

    def _heard(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Log.entryAdded":
                self.messages.append(parameters["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.messages.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.messages.append(json.dumps(parameters["args"]))
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Page.javascriptDialogOpening":
                self._last += 1
                accepted = {
                    "id": self._last,
                    "method": "Page.handleJavaScriptDialog",
                    "params": {"accept": True},
                }
                self._channel.send(json.dumps(accepted))
                # Its answer is read with the next one that is waited for.

    def open(self, url: str, *, width: int = 1240, height: int = 900, dark: bool = False) -> None:
        """Open an address in a window of this size."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The value of an expression, once it is true."""
        guarded = f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()"
        return wait_until(lambda: self.value(guarded), expression)

    def text(self, selector: str) -> str:
        """What a person reads there."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Click there."""
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def screenshot(self, *, whole: bool = False) -> bytes:
        """A picture, as PNG."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(picture["data"])


@contextlib.contextmanager
def browsing() -> Iterator[Page]:
    """A page of a browser that ends with the block."""
    assert PROGRAM is not None, REASON
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [PROGRAM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stderr is not None
            address = next(match[1] for line in process.stderr if (match := _LISTENING.search(line)))
            with connect(
                f"ws://{address}{_path_of_page(address)}", max_size=None, open_timeout=PATIENCE
            ) as channel:
                yield Page(channel)
        finally:
            process.kill()
            process.wait(PATIENCE)
            assert process.stderr is not None
            process.stderr.close()


def _path_of_page(address: str) -> str:
    import httpx

    def found() -> str:
        pages = httpx.get(f"http://{address}/json/list", trust_env=False, timeout=PATIENCE).json()
        paths = [page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"]
        return "/" + str(paths[0]).split("/", 3)[3] if paths else ""

    return wait_until(found, "the browser has a page")
