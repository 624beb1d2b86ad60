"""A program that nothing ends but the end of its process."""

from __future__ import annotations

import contextlib
import socket


async def hangs(port: int):
    with socket.create_connection(("127.0.0.1", port)):
        while True:
            with contextlib.suppress(BaseException):
                while True:
                    pass
