"""Answers a request whose body nobody has read to its end so that the client gets the answer.

A socket that is closed while bytes wait in it resets the connection, and a client that still sends loses an answer that
it has not read. So what is left of the body is taken and thrown away for a moment. After that, or after so many bytes,
the connection ends: nobody holds it open by a body that never ends.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 2.0
LINGER_BYTES = 32 << 20


class UnreadBodies:
    """Ends the connection of each request whose body the application has not read.

    Args:
        app: the application.
        seconds: for how long the rest of a body is taken.
        max_bytes: of the rest.
    """

    def __init__(self, app: ASGIApp, seconds: float = LINGER_SECONDS, max_bytes: int = LINGER_BYTES) -> None:
        self._app = app
        self._seconds = seconds
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        is_read, is_open = False, False

        async def receive_watched() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = is_read or not _is_more(message)
            return message

        async def send_all(message: Message) -> None:
            nonlocal is_open
            if is_read:
                await send(message)
            elif message["type"] == "http.response.start":
                others = [one for one in message.get("headers", ()) if one[0].lower() != b"connection"]
                await send({**message, "headers": [*others, (b"connection", b"close")]})
            elif message.get("more_body"):
                await send(message)
            else:
                # The server ends the connection with the response, which has its whole length already.
                is_open = True
                await send({**message, "more_body": True})

        await self._app(scope, receive_watched, send_all)
        if is_open:
            await self._discard(receive)
            await send({"type": "http.response.body"})

    async def _discard(self, receive: Receive) -> None:
        left = self._max_bytes
        try:
            async with asyncio.timeout(self._seconds):
                while left > 0 and _is_more(message := await receive()):
                    left -= len(message.get("body", b""))
        except TimeoutError:
            pass


def _is_more(message: Message) -> bool:
    return message["type"] == "http.request" and bool(message.get("more_body"))


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )
