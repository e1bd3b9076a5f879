"""`run` before there is anything to do: what it says about itself."""

import io
from contextlib import redirect_stderr
from ipaddress import ip_network

import msgspec
import pytest

import trio_alerts
from tests.support.calling import own_logging
from trio_alerts.channels.webhook import WebhookSettings
from trio_alerts.commands.run import introduce
from trio_alerts.log import LogFormat, set_up_logging
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import parse_receiver_url, parse_redis_url, parse_store_url
from trio_alerts.settings.settings import Settings

SETTINGS = Settings(
    redis_url=parse_redis_url("rediss://user:hunter1@redis.internal:6380/2"),
    store_url=parse_store_url("https://admin:hunter3@a.internal:9200,b.internal:9200"),
    streams=("Alerts-1", "Alerts-2"),
    channels=(
        WebhookSettings(name="pager", url=parse_receiver_url("https://events.example/v2/hunter4?key=hunter5")),
        WebhookSettings(name="chat", url=parse_receiver_url("https://hooks.example/services/hunter6")),
    ),
    workers=64,
    processes=2,
    grace_s=5.0,
    networks=(ip_network("10.0.0.0/8"),),
    webhook_secret=Secret("hunter7"),
)


def introduced(log_format: LogFormat) -> str:
    err = io.StringIO()
    with redirect_stderr(err), own_logging():
        set_up_logging(log_format)
        introduce(SETTINGS)
    return err.getvalue()


def test_the_banner_says_what_runs_here() -> None:
    """Version, streams, backends, channels, workers and what was set, a line each; in JSON they are fields."""
    first, *below = introduced("text").splitlines()
    assert first.endswith(f" INFO     trio-alerts {trio_alerts.__version__}")
    assert [
        "    reads     Alerts-1, Alerts-2 of rediss://redis.internal:6380/2 as group alert-processor",
        "    records   in https://a.internal:9200, https://b.internal:9200",
        "    notifies  pager (https://events.example), chat (https://hooks.example)",
        "    runs      2 processes, each with 64 workers",
        "    keeps     every entry (trim = off), and every record (no keep_records_s)",
        "    set       grace_s = 5.0",
        '    set       networks = ["10.0.0.0/8"]',
    ] == below
    (line,) = introduced("json").splitlines()
    told = msgspec.json.decode(line)
    assert (f"trio-alerts {trio_alerts.__version__}", ["Alerts-1", "Alerts-2"], 64, 2) == tuple(
        told[name] for name in ("message", "streams", "workers", "processes")
    )
    assert {"pager": "https://events.example", "chat": "https://hooks.example"} == told["destinations"]
    assert {"grace_s": 5.0, "networks": ["10.0.0.0/8"]} == told["settings"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_banner_holds_no_secret(log_format: LogFormat) -> None:
    """Neither credentials nor the paths of receivers, which are often secrets themselves."""
    assert "hunter" not in introduced(log_format)
