"""The health probe of a WSGI application (`worker.probe`): one request, in a thread of its own."""

import asyncio
import contextlib
import io
import threading
from collections.abc import Callable
from typing import Any

from asgi_master.asgi.scope import HttpScopes
from asgi_master.asgi.wsgi.environ import Environs
from asgi_master.asgi.wsgi.file_wrapper import FileWrapper
from asgi_master.asgi.wsgi.response import ExcInfo, Response
from asgi_master.http.message import Request
from asgi_master.telemetry.failures import describe
from asgi_master.telemetry.request_info import RequestInfo, request_info
from asgi_master.worker.wsgi.error_stream import ErrorStream


class WsgiAttempt:
    """One request, from its environ to the end of its response."""

    def __init__(self, scopes: HttpScopes, request: Request, state: dict[str, Any]) -> None:  # noqa: ARG002 -- of ASGI
        self.error: BaseException | None = None
        self._request = request
        self._scopes = scopes
        self._response = Response(request.method)
        self._is_complete = False

    @property
    def is_healthy(self) -> bool:
        head = self._response.head
        return self._is_complete and self.error is None and head is not None and 200 <= head.status < 400

    def outcome(self) -> str:
        if self.error is not None:
            return f"raised {describe(self.error)},"
        head = self._response.head
        return str(head.status) if self._is_complete and head is not None else "no complete response"

    def info(self) -> RequestInfo:
        """For `wsgi.errors`."""
        return request_info(self._request.method, self._request.target, {})

    async def run(self, app: Callable[..., Any], limit: float) -> None:
        """Call the application, and leave the thread to itself after `limit` seconds."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def call() -> None:
            self._call(app)
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(over.set)

        threading.Thread(target=call, name="health probe", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await over.wait()

    def _call(self, app: Callable[..., Any]) -> None:
        response, errors = self._response, ErrorStream(self)
        environs = Environs(multithread=True, multiprocess=True, file_wrapper=FileWrapper)
        result: Any = None
        try:
            environ = environs.environ(self._scopes, self._request)
            environ["wsgi.input"] = io.BytesIO()
            environ["wsgi.errors"] = errors
            try:
                result = app(environ, self._start_response)
                for piece in result:
                    response.piece(piece)
                    if response.is_whole:
                        break
                response.end()
            finally:
                if hasattr(result, "close"):
                    result.close()
        except BaseException as error:  # noqa: BLE001 -- whatever it raises, it is not well
            self.error = error
        else:
            self._is_complete = True
        errors.flush()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        self._response.start_response(status, headers, exc_info)
        return self._response.write
