"""Answers a request with its target and the sum of the bytes of its body, which it reads as they come.

A header field tells how many requests this instance has had.
"""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

visits = 0


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        global visits
        visits += 1
        body = request.consume()
        total = 0
        with body.stream() as stream:
            while True:
                try:
                    total += sum(stream.blocking_read(1 << 16))
                except Err as error:
                    assert isinstance(error.value, StreamError_Closed), error.value
                    break
        trailers = IncomingBody.finish(body)
        trailers.subscribe().block()
        assert isinstance(trailers.get(), Ok)
        fields = [("content-type", b"text/plain"), ("x-visits", str(visits).encode())]
        response = OutgoingResponse(Fields.from_list(fields))
        response.set_status_code(202)
        answer = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with answer.write() as stream:
            stream.blocking_write_and_flush(f"{request.path_with_query()} {total}".encode())
        OutgoingBody.finish(answer, None)
