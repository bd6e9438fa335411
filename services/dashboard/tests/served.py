"""The dashboard with a route that returns the number of kept answers, for tests."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streamlit import starlette

from dashboard.__main__ import main
from dashboard.session import ANSWERS


async def _count(_: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(ANSWERS)))


class App(starlette.App):
    """Streamlit's app with an additional route."""

    def __init__(self, script: object, routes: list[Route]) -> None:
        super().__init__(script, routes=[*routes, Route("/answers-kept", _count)])


starlette.App = App
main()
