"""Bodies of webhooks in formats that other tools read already. Pure.

`cloudevents`: CloudEvents 1.0, structured mode in JSON (https://github.com/cloudevents/spec, `spec.md` and
`formats/json-format.md`). `alertmanager`: version 4 of the body of Alertmanager's `webhook_config`
(https://prometheus.io/docs/alerting/latest/configuration/#webhook_config), whose values are all text.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Container
from typing import Any, Literal

from trio_alerts.channels.alert_text import visible
from trio_alerts.exact_json import Json, decode_object, encode
from trio_alerts.ports.channel import Message
from trio_alerts.text import one_line

Format = Literal["alert", "cloudevents", "alertmanager"]

CONTENT_TYPES: dict[Format, str] = {
    "alert": "application/json",
    "cloudevents": "application/cloudevents+json",
    "alertmanager": "application/json",
}
_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time: Alertmanager's `endsAt` while an alert fires


def render_as(format_: Format, message: Message, receiver: str) -> bytes:
    """Return the body in a format other than `alert`; `receiver` is the channel's name."""
    event = decode_object(message.payload)
    return _cloudevent(message, event) if format_ == "cloudevents" else _alertmanager(message, event, receiver)


def _cloudevent(message: Message, event: dict[str, Any]) -> bytes:
    attributes = {
        "specversion": "1.0",
        "id": one_line(message.id),  # with `source` it names the event: the same at every attempt
        "source": "urn:trio-alerts",
        "type": "trio-alerts.alert",
        "datacontenttype": "application/json",
    }
    # Attributes hold no control characters, and are never empty.
    optional = {"time": "occurred_at", "subject": "alert_id", "severity": "severity"}
    attributes |= {name: one_line(str(event[field])) for name, field in optional.items() if event.get(field)}
    return encode({**attributes, "data": Json(message.payload)})


def _alertmanager(message: Message, event: dict[str, Any], receiver: str) -> bytes:
    over = event.get("status") in ("resolved", "retracted")
    status = "resolved" if over else "firing"
    given = event.get("labels")
    labels: dict[str, str] = {}
    for name, value in given.items() if isinstance(given, dict) else ():
        labels[_label_name(name, labels)] = str(value)
    own = {"alertname": "rule_id", "severity": "severity", "view": "view", "scope": "scope", "network": "network"}
    labels |= {name: str(event[field]) for name, field in own.items() if event.get(field)}
    annotations = {
        "summary": one_line(str(event.get("title") or "")),
        "description": visible(str(event.get("description") or "")),
        "record_id": message.id,
        "alert_id": str(event.get("alert_id") or ""),
    }
    annotations = {name: text for name, text in annotations.items() if text}
    links = event.get("links")
    starts_at = str(event.get("occurred_at") or dt.datetime.min.replace(tzinfo=dt.UTC).isoformat())
    key = str(event.get("fingerprint") or message.id)
    alert = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": starts_at,
        "endsAt": str(event.get("emitted_at") or starts_at) if over else _NEVER,
        "generatorURL": str(links[0]) if isinstance(links, list) and links else "",
        "fingerprint": hashlib.sha256(key.encode()).hexdigest()[:16],  # theirs is 64 bits of a hash, too
    }
    group = {"alertname": labels["alertname"]} if "alertname" in labels else {}
    return encode(
        {
            "version": "4",
            "groupKey": key,
            "truncatedAlerts": 0,
            "status": status,
            "receiver": receiver,
            "groupLabels": group,
            "commonLabels": labels,
            "commonAnnotations": annotations,
            "externalURL": "",
            "alerts": [alert],
        }
    )


def _label_name(name: str, taken: Container[str]) -> str:
    """Return a name that Prometheus takes (letters, digits and "_", the first no digit) and no other label has."""
    free = re.sub(r"^(?=[0-9])|[^A-Za-z0-9_]", "_", name)
    while free in taken:
        free += "_"
    return free
