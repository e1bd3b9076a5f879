"""Pages of dead letters: which there are, what is in one, put back, dropped."""

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from trio_alerts.operations.dead import DeadLetters, WholeDeadLetter
from trio_alerts.web.desk import Desk
from trio_alerts.web.rendering import Renderer
from trio_alerts.web.visitors import log_change, visitor_of

SHOWN = 100  # entries a page
DONE = {
    "replayed": "It is back in its stream, as the same alert.",
    "replayed-as-new": "It is back in its stream, as a new alert.",
    "dropped": "It is dropped for good; the log of drops keeps who did it.",
}


class QuarantinePages:
    """Entries that can never be processed as they are."""

    def __init__(self, desk: Desk, renderer: Renderer) -> None:
        self._desk = desk
        self._renderer = renderer
        self.routes = [
            Route("/quarantine", self._list),
            Route("/quarantine/{dead_id:path}/replay", self._ask_to_replay),
            Route("/quarantine/{dead_id:path}/replay", self._replay, methods=["POST"]),
            Route("/quarantine/{dead_id:path}/drop", self._ask_to_drop),
            Route("/quarantine/{dead_id:path}/drop", self._drop, methods=["POST"]),
            Route("/quarantine/{dead_id:path}", self._show),
        ]

    @property
    def _letters(self) -> DeadLetters:
        return DeadLetters(self._desk.redis.dead_letters, self._desk.settings.stream_names)

    async def _list(self, request: Request) -> Response:
        parameters = request.query_params
        after, reasons = parameters.get("after") or None, [one for one in parameters.getlist("reason") if one]
        found = await self._letters.find(reasons, SHOWN + 1, after)
        return self._renderer.page(
            request,
            "quarantine.html",
            letters=found[:SHOWN],
            more=found[SHOWN - 1].dead_id if len(found) > SHOWN else None,
            reasons=reasons,
            is_first=after is None,
            done=DONE.get(parameters.get("done", ""), ""),
        )

    async def _show(self, request: Request) -> Response:
        letter = await self._letter(request)
        fields = [(name, _laid_out(value)) for name, value in letter.fields]
        return self._renderer.page(request, "dead_letter.html", letter=letter, fields=fields)

    async def _ask_to_replay(self, request: Request) -> Response:
        return self._renderer.page(request, "replay.html", letter=await self._letter(request))

    async def _ask_to_drop(self, request: Request) -> Response:
        return self._renderer.page(request, "drop.html", letter=await self._letter(request))

    async def _replay(self, request: Request) -> Response:
        dead_id, as_new = request.path_params["dead_id"], "as_new" in request.state.form
        ((name, stream, new_id),) = [one async for one in self._letters.replay([dead_id], as_new=as_new)]
        if new_id is None:
            raise _gone(name)
        log_change(request, f"put dead letter {name} back into {stream} as {new_id}")
        return RedirectResponse(f"/quarantine?done={'replayed-as-new' if as_new else 'replayed'}", 303)

    async def _drop(self, request: Request) -> Response:
        dead_id = request.path_params["dead_id"]
        ((name, was_there),) = [one async for one in self._letters.drop([dead_id], visitor_of(request).name)]
        if not was_there:
            raise _gone(name)
        log_change(request, f"dropped dead letter {name}")
        return RedirectResponse("/quarantine?done=dropped", 303)

    async def _letter(self, request: Request) -> WholeDeadLetter:
        dead_id = request.path_params["dead_id"]
        letter = await self._letters.get(dead_id)
        if letter is None:
            raise _gone(dead_id)
        return letter


def _gone(name: str) -> HTTPException:
    return HTTPException(404, f"{name:.600} is not in the dead-letter stream (any more)")


def _laid_out(text: str) -> str:
    try:
        return msgspec.json.format(text, indent=2)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
