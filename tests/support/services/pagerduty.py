"""PagerDuty's Events API v2, as its documents describe it.

Source: developer.pagerduty.com, "Events API v2 Overview" and "Send an Alert Event": fields, limits, statuses.
"""

import datetime as dt
from typing import Any

import msgspec

from tests.support.services import http
from tests.support.services.limit import Limit

MOST_BYTES = 524_288
SEVERITIES = {"critical", "error", "warning", "info"}
FIELDS = {"routing_key", "event_action", "dedup_key", "client", "client_url", "payload", "links", "images"}


class PagerDutyStandIn:
    """One integration.

    Attributes:
        events: What was taken.
        details: Whether `custom_details` and links are taken: else the event is invalid.
    """

    def __init__(self, routing_key: str) -> None:
        self.routing_key = routing_key
        self.events: list[dict[str, Any]] = []
        self.limit: Limit | None = None
        self.details = True

    def answer(self, request: bytes) -> bytes:
        _, _, body = http.split(request)
        if self.limit and self.limit.wait_s():
            return http.text(429, "")
        if len(body) > MOST_BYTES:
            return http.text(413, "")
        event = msgspec.json.decode(body)
        errors = self._errors(event)
        if errors:
            return http.json(400, {"status": "invalid event", "message": "Event object is invalid", "errors": errors})
        self.events.append(event)
        return http.json(202, {"status": "success", "message": "Event processed", "dedup_key": event["dedup_key"]})

    def _errors(self, event: dict[str, Any]) -> list[str]:
        payload = event.get("payload", {})
        checks = {
            "Invalid routing key": event.get("routing_key") == self.routing_key,
            "'event_action' must be trigger, acknowledge or resolve": event.get("event_action") == "trigger",
            "'dedup_key' is too long": 1 <= len(event.get("dedup_key", "").encode()) <= 255,
            "unknown fields": event.keys() <= FIELDS,
            "'payload.summary' is missing or too long": 1 <= len(payload.get("summary", "")) <= 1024,
            "'payload.source' is missing": bool(payload.get("source")),
            "'payload.severity' is invalid": payload.get("severity") in SEVERITIES,
            "'payload.timestamp' is invalid": _is_time(payload.get("timestamp")),
            "details": self.details or ("custom_details" not in payload and "links" not in event),
            "'links' are invalid": all(str(link["href"]).startswith("http") for link in event.get("links", [])),
        }
        return [error for error, right in checks.items() if not right]


def _is_time(text: str | None) -> bool:
    return text is None or dt.datetime.fromisoformat(text).tzinfo is not None
