"""Silences over the API."""

import datetime as dt
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from trio_alerts.exact_json import Timestamp
from trio_alerts.operations.records import Change, Skip
from trio_alerts.operations.silences import (
    LONGEST_WHY,
    NO_ALERT_MATCHES,
    ListedSilence,
    Preview,
    add_silence,
    end_silence,
    list_silences,
    listed,
    preview,
)
from trio_alerts.routing.matchers import Matcher, parse_matcher
from trio_alerts.routing.proof import can_all_match
from trio_alerts.times import duration
from trio_alerts.web.api.endpoint import Call, Endpoint
from trio_alerts.web.api.parts import Parameter, flag, wrong_body
from trio_alerts.web.api.problems import WrongPart
from trio_alerts.web.kept_back import send_kept_back
from trio_alerts.web.visitors import log_change

Matchers = Annotated[
    list[Annotated[str, Meta(max_length=2000)]],
    Meta(max_length=100, description="As in routes, `severity >= high`; all of them must hold"),
]
AllAlerts = Annotated[bool, Meta(description="Every alert, in place of matchers")]


class SilenceList(Struct, frozen=True):
    """Silences, those that end first at the top."""

    silences: list[ListedSilence]


class PreviewRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Which alerts a silence would match."""

    matchers: Matchers = msgspec.field(default_factory=list)
    all_alerts: AllAlerts = False


class SilenceRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A silence to be set. It ends at `until`, or after a time: one of them is given."""

    matchers: Matchers = msgspec.field(default_factory=list)
    all_alerts: AllAlerts = False
    until: Timestamp | None = None
    lasting: Annotated[str, Meta(description="How long: `30m`, `2h`, `7d`")] | None = msgspec.field(
        default=None, name="for"
    )
    why: Annotated[str, Meta(max_length=LONGEST_WHY, pattern=r"\S", description="Kept in each record")]
    by: Annotated[str, Meta(max_length=200, pattern=r"\S", description="Who wants it, if not who asks")] | None = None


class KeptBackRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a silence that is over kept back."""

    dry_run: bool = False


class KeptBack(Struct, frozen=True):
    """How many alerts are due now, and how many were left alone; in a dry run, as they would be."""

    due: int
    left_alone: int
    dry_run: bool


async def _list(call: Call) -> SilenceList:
    return SilenceList(await list_silences(call.desk.redis.silences, ended=call.query.get("all", False)))


async def _add(call: Call) -> ListedSilence:
    wanted: SilenceRequest = call.body
    _matchers(wanted)
    silences = call.desk.redis.silences
    made = await add_silence(silences, wanted.matchers, _end(wanted), wanted.why, wanted.by or call.by)
    log_change(call.request, f"set silence {made.id} until {made.until.isoformat()}: {made.why}")
    return listed(made, made.since)


async def _end_one(call: Call) -> ListedSilence:
    silences = call.desk.redis.silences
    await end_silence(silences, call.id, call.by)
    log_change(call.request, f"ended silence {call.id}")
    return next(one for one in await list_silences(silences, ended=True) if one.id == call.id)


async def _redeliver(call: Call) -> KeptBack:
    dry_run: bool = call.body.dry_run
    counts = await send_kept_back(call.desk, call.request, call.id, dry_run=dry_run)
    return KeptBack(counts[Change], counts[Skip], dry_run)


async def _preview(call: Call) -> Preview:
    return await preview(call.desk.store, _matchers(call.body), dt.datetime.now(dt.UTC))


def _matchers(wanted: PreviewRequest | SilenceRequest) -> list[Matcher]:
    if bool(wanted.matchers) == wanted.all_alerts:
        why = "say which alerts, or that all_alerts are meant: one of them"
        raise wrong_body([WrongPart("matchers", why)])
    matchers: list[Matcher] = []
    wrong: list[WrongPart] = []
    for number, text in enumerate(wanted.matchers):
        try:
            matchers.append(parse_matcher(text))
        except ValueError as fault:
            wrong.append(WrongPart(f"matchers[{number}]", str(fault)))
    if not wrong and not can_all_match(matchers):
        wrong.append(WrongPart("matchers", NO_ALERT_MATCHES))
    if wrong:
        raise wrong_body(wrong)
    return matchers


def _end(wanted: SilenceRequest) -> dt.datetime | dt.timedelta:
    if (wanted.until is None) == (wanted.lasting is None):
        raise wrong_body([WrongPart("until", "say when it ends: until, or for how long: one of them")])
    if wanted.until is not None:
        return wanted.until
    try:
        return duration(wanted.lasting or "")
    except ValueError as fault:
        raise wrong_body([WrongPart("for", str(fault))]) from None


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/silences",
        about="The silences that are active",
        carry_out=_list,
        answer=SilenceList,
        ids={"silence_id": "/silences/0/id"},
        query=(Parameter("all", "those that are over as well, for 30 days", flag, {"type": "boolean"}),),
    ),
    Endpoint(
        method="POST",
        path="/silences",
        about="Set a silence: matching alerts are recorded, and not sent",
        carry_out=_add,
        answer=ListedSilence,
        status=201,
        ids={"silence_id": "/id"},
        body=SilenceRequest,
        example={"matchers": ["view = Lending", "severity <= medium"], "for": "2h", "why": "oracle maintenance"},
    ),
    Endpoint(
        method="POST",
        path="/silences/preview",
        about="Count the alerts of the last 24 h that a silence would have matched; nothing is set",
        carry_out=_preview,
        answer=Preview,
        body=PreviewRequest,
        example={"matchers": ["view = Lending", "severity <= medium"]},
    ),
    Endpoint(
        method="DELETE",
        path="/silences/{silence_id}",
        about="End a silence now",
        carry_out=_end_one,
        answer=ListedSilence,
        conflicts=True,
    ),
    Endpoint(
        method="POST",
        path="/silences/{silence_id}/redeliver",
        about="Make due what a silence kept back, once it is over; a running process sends it",
        carry_out=_redeliver,
        answer=KeptBack,
        body=KeptBackRequest,
        example={"dry_run": True},
        conflicts=True,
    ),
)
