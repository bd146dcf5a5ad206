"""The page at `/`: three files of ours, which ask nothing of any other host and need no build."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

# Path → file and media type.
FILES: Final = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


@cache
def _file(name: str) -> bytes:
    return (resources.files(__package__) / name).read_bytes()


async def serve(request: Request) -> Response:
    """One of the page's files."""
    name, media_type = FILES[request.url.path]
    return Response(_file(name), media_type=media_type, headers={"cache-control": "no-cache"})
