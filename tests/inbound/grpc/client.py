"""One call by grpcio, which knows no more of the service than its path."""

import sys
import threading

import grpc

address, path, request, timeout, what = sys.argv[1:]
with grpc.insecure_channel(address) as channel:
    call = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
    future = call.future(bytes.fromhex(request), timeout=float(timeout) or None)
    if what == "cancel":
        # Until whoever started this has seen the call begin.
        sys.stdin.readline()
        future.cancel()
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    done.wait()
    code = future.code()
    print(code.name)
    print(future.details() or "")
    print("" if code is not grpc.StatusCode.OK else future.result().hex())
    if not future.cancelled():
        trailing = dict(future.trailing_metadata() or ())
        print(trailing.get("grpc-status-details-bin", b"").hex())
