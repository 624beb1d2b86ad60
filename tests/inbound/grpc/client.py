"""One call by grpcio, which knows no more of the service than its path.

The messages of a stream are printed one behind the other, with a comma between.
"""

import contextlib
import sys
import threading

import grpc

address, path, request, timeout, what = sys.argv[1:]
with grpc.insecure_channel(address) as channel:
    # The limit of the call is not to be used up by the connection.
    grpc.channel_ready_future(channel).result(timeout=60)
    if what == "stream":
        call = channel.unary_stream(path, request_serializer=None, response_deserializer=None)
        events = call(bytes.fromhex(request), timeout=float(timeout) or None)
        messages = []
        with contextlib.suppress(grpc.RpcError):
            messages.extend(event.hex() for event in events)
        print(events.code().name)
        print(events.details() or "")
        print(",".join(messages))
        print(dict(events.trailing_metadata()).get("grpc-status-details-bin", b"").hex())
        sys.exit()
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
