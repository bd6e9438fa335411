"""uvicorn's HTTP protocol, with a problem document for what is no HTTP."""

import secrets
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from model_api.problems import MEDIA_TYPE, Problem


class Protocol(HttpToolsProtocol):
    """Answers what cannot be read as every other error is answered."""

    def send_400_response(self, msg: str) -> None:
        """Answer 400 and close the connection.

        Args:
            msg: uvicorn's own text.
        """
        request_id = secrets.token_hex(8)
        problem = Problem(HTTPStatus.BAD_REQUEST, "invalid-http", msg)
        document = problem.document("", request_id)
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(document)}\r\nx-request-id: {request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + document)
        self.transport.close()
