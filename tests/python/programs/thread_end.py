"""Makes the end of Python's thread last, as seen from outside."""

from __future__ import annotations

import ctypes
import socket


async def takes_its_time(port: int) -> None:
    """Has the thread sleep and then close a connection, when it ends by itself."""
    libc = ctypes.CDLL(None)
    connection = socket.create_connection(("127.0.0.1", port)).detach()
    # Destructors of values of the thread: C calls them with the value when the thread ends.
    for destructor, value in ((libc.sleep, 4), (libc.close, connection)):
        key = ctypes.c_uint()
        libc.pthread_key_create(ctypes.byref(key), destructor)
        libc.pthread_setspecific(key, ctypes.c_void_p(value))
