"""The entry point of a worker process or a zygote, passed to Python by `-c`.

Its stdin is the socket to the host. The first frame on it carries the sources of this package, so
that nothing has to be installed in the venv, and the settings of the process.
"""

import json
import os
import socket
import struct
import types


def _take_socket() -> socket.socket:
    # All other descriptors belong to the host: a copy here would keep them open for ever.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    taken = socket.socket(fileno=os.dup(0))
    # Code that reads stdin gets an end of file instead of frames.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return taken


def _read(taken: socket.socket, length: int) -> bytes:
    data = taken.recv(length, socket.MSG_WAITALL)
    if len(data) < length:
        raise SystemExit("the host is gone")
    return data


def main() -> None:
    taken = _take_socket()
    length, header = struct.unpack("!II", _read(taken, 8))
    hello = json.loads(_read(taken, length - 4)[:header])["hello"]
    bootstrap = types.ModuleType("tower_dspy_bootstrap")
    name = "<tower-dspy>/tower_dspy/bootstrap.py"
    exec(compile(hello["bootstrap"], name, "exec"), bootstrap.__dict__)
    bootstrap.install(hello["modules"])
    # Here, as the bootstrap makes them importable.
    from tower_dspy import worker, zygote

    process = zygote if hello["zygote"] else worker
    process.run(taken, hello)


if __name__ == "__main__":
    main()
