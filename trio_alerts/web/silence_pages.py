"""Pages of silences: which there are, a new one after a look at what it would have matched, an early end."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from trio_alerts.errors import SettingsError
from trio_alerts.operations.records import Change, Skip, newest_records
from trio_alerts.operations.silences import add_silence, end_silence, list_silences, matchers_of, preview
from trio_alerts.routing.matchers import Matcher, written
from trio_alerts.times import duration
from trio_alerts.web.desk import Desk
from trio_alerts.web.kept_back import kept_back_by, send_kept_back
from trio_alerts.web.record_pages import COUNTED, valid_id
from trio_alerts.web.rendering import Renderer
from trio_alerts.web.visitors import log_change, visitor_of

DEFAULT_LASTS = "2h"
SHOWN = 10  # records, the newest of those that it kept back
LIKE = ("rule_id", "view", "scope")  # what a silence for alerts like one begins with
DONE = {"added": "The silence is set; every process knows it within a second.", "ended": "The silence has ended."}


@dataclass(frozen=True)
class Draft:
    """A silence as the form has it."""

    matchers: str = ""
    lasts: str = DEFAULT_LASTS
    why: str = ""
    all_alerts: bool = False

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "Draft":
        """Read the fields of the form."""
        return cls(
            matchers=fields.get("matchers", "").replace("\r\n", "\n"),
            lasts=fields.get("lasts", DEFAULT_LASTS).strip(),
            why=fields.get("why", "").strip(),
            all_alerts="all_alerts" in fields,
        )

    @property
    def lines(self) -> list[str]:
        """The matchers, as they were written."""
        return [line.strip() for line in self.matchers.split("\n") if line.strip()]

    def check(self) -> tuple[tuple[Matcher, ...], dt.timedelta]:
        """Return what it matches, and how long it lasts.

        Raises:
            SettingsError: Something is missing or makes no sense.
        """
        if bool(self.lines) == self.all_alerts:
            raise SettingsError(
                "say which alerts, a matcher a line; or tick that every alert is meant, and leave it empty"
            )
        if not self.why:
            raise SettingsError("say why: whoever looks for an alert will read it")
        try:
            lasts = duration(self.lasts)
        except ValueError as fault:
            raise SettingsError(str(fault)) from None
        return matchers_of(self.lines, all_alerts=self.all_alerts), lasts


class SilencePages:
    """What is kept from being sent, for a time."""

    def __init__(self, desk: Desk, renderer: Renderer) -> None:
        self._desk = desk
        self._renderer = renderer
        self.routes = [
            Route("/silences", self._list),
            Route("/silences/new", self._draft),
            Route("/silences/new", self._add, methods=["POST"]),
            Route("/silences/{silence_id}/end", self._ask_to_end),
            Route("/silences/{silence_id}/end", self._end, methods=["POST"]),
            Route("/silences/{silence_id}/send", self._ask_to_send),
            Route("/silences/{silence_id}/send", self._send, methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        ended = "all" in request.query_params
        silences = await list_silences(self._desk.redis.silences, ended=ended)
        done, over = DONE.get(request.query_params.get("done", ""), ""), request.query_params.get("over", "")
        now = await self._desk.redis.silences.now()
        return self._renderer.page(
            request, "silences.html", silences=silences, ended=ended, done=done, over=over, now=now
        )

    async def _draft(self, request: Request) -> Response:
        parameters = request.query_params
        if "record" in parameters:
            return self._form(request, await self._like(valid_id(parameters["record"])))
        draft = Draft.of(parameters)
        if "preview" not in parameters:
            return self._form(request, draft)
        try:
            matchers, lasts = draft.check()
        except SettingsError as fault:
            return self._form(request, draft, str(fault))
        found = await preview(self._desk.store, matchers, dt.datetime.now(dt.UTC))
        return self._renderer.page(
            request, "silence_preview.html", draft=draft, found=found, lasts=lasts.total_seconds()
        )

    async def _add(self, request: Request) -> Response:
        draft, who = Draft.of(request.state.form), visitor_of(request).name
        try:
            _, lasts = draft.check()
            silence = await add_silence(self._desk.redis.silences, draft.lines, lasts, draft.why, who)
        except SettingsError as fault:
            return self._form(request, draft, str(fault))
        log_change(
            request, f"set silence {silence.id}: {' and '.join(silence.matchers) or 'every alert'}, {draft.lasts}"
        )
        return RedirectResponse("/silences?done=added", 303)

    async def _ask_to_end(self, request: Request) -> Response:
        wanted = request.path_params["silence_id"]
        found = [one for one in await list_silences(self._desk.redis.silences) if one.id == wanted]
        if not found:
            raise HTTPException(404, f"there is no silence {wanted!r}, or it is over")
        return self._renderer.page(request, "silence_end.html", silence=found[0])

    async def _end(self, request: Request) -> Response:
        silence = await end_silence(
            self._desk.redis.silences, request.path_params["silence_id"], visitor_of(request).name
        )
        log_change(request, f"ended silence {silence.id}")
        return RedirectResponse(f"/silences?done=ended&over={silence.id}", 303)

    async def _ask_to_send(self, request: Request) -> Response:
        silence_id: str = request.path_params["silence_id"]
        active = {one.id for one in await list_silences(self._desk.redis.silences)}
        found = await newest_records(self._desk.store, kept_back_by(silence_id), SHOWN, count_to=COUNTED)
        return self._renderer.page(
            request,
            "silence_send.html",
            silence_id=silence_id,
            is_active=silence_id in active,
            found=found,
            counted=COUNTED,
            records=[(one, one.fields()) for one in found.records],
        )

    async def _send(self, request: Request) -> Response:
        silence_id: str = request.path_params["silence_id"]
        counts = await send_kept_back(self._desk, request, silence_id, dry_run=False)
        return self._renderer.page(
            request, "silence_sent.html", silence_id=silence_id, due=counts[Change], left_alone=counts[Skip]
        )

    async def _like(self, record_id: str) -> Draft:
        stored = await self._desk.store.get(record_id)
        fields = {} if stored is None else stored.record.fields()
        return Draft("\n".join(written(name, str(fields[name])) for name in LIKE if fields.get(name)))

    def _form(self, request: Request, draft: Draft, fault: str = "") -> Response:
        return self._renderer.page(request, "silence_form.html", 400 if fault else 200, draft=draft, fault=fault)
