"""Errors in the format that the caller's SDK expects."""

import json
import uuid
from xml.sax.saxutils import escape

from werkzeug.wrappers import Request, Response


class AwsError(Exception):
    """A request that is refused before moto sees it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def response(self, request: Request, service: str | None) -> Response:
        """The answer in the protocol of the service: S3 XML, EC2 XML, query XML or JSON."""
        request_id = str(uuid.uuid4())
        code, message = escape(self.code), escape(self.message)
        headers = {"x-amzn-RequestId": request_id}
        if service == "s3":
            body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        elif service == "ec2":
            body = (
                f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error>"
                f"</Errors><RequestID>{request_id}</RequestID></Response>"
            )
        elif request.mimetype == "application/x-www-form-urlencoded" or service is None:
            body = (
                f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error>"
                f"<RequestId>{request_id}</RequestId></ErrorResponse>"
            )
        else:
            headers["x-amzn-ErrorType"] = self.code
            return Response(
                json.dumps({"__type": self.code, "message": self.message}),
                self.status,
                headers,
                content_type="application/x-amz-json-1.1",
            )
        return Response(
            '<?xml version="1.0" encoding="UTF-8"?>\n' + body,
            self.status,
            headers,
            content_type="text/xml",
        )
