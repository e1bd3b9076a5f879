"""The setting `redis_url`: what it means, and what is refused."""

from pathlib import Path

import pytest

from trio_alerts.backends.redis.address import RedisAddress, parse_redis_url
from trio_alerts.backends.redis.connect import tls_context
from trio_alerts.errors import SettingsError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", RedisAddress()),
        ("redis://h", RedisAddress(host="h")),
        ("redis://h:1/2", RedisAddress(host="h", port=1, db=2)),
        ("redis://h?db=3", RedisAddress(host="h", db=3)),
        ("redis://[::1]:1/", RedisAddress(host="::1", port=1)),
        ("rediss://h", RedisAddress(host="h", tls=True)),
        ("redis://:p%40%2Fs@h", RedisAddress(host="h", password="p@/s")),
        ("redis://u%C3%A9:p@h", RedisAddress(host="h", username="ué", password="p")),
        ("unix:///run/redis.sock", RedisAddress(path="/run/redis.sock")),
        ("unix://u:p@/run/a%20b.sock?db=1", RedisAddress(path="/run/a b.sock", username="u", password="p", db=1)),
        ("redis+sentinel://a/alerts", RedisAddress(sentinels=(("a", 26379),), service="alerts")),
        (
            "redis+sentinel://u:p@a:1,[::1]:2,c/my%20service/3?sentinel_username=su&sentinel_password=sp%26",
            RedisAddress(
                sentinels=(("a", 1), ("::1", 2), ("c", 26379)),
                service="my service",
                db=3,
                username="u",
                password="p",
                sentinel_username="su",
                sentinel_password="sp&",
            ),
        ),
    ],
)
def test_a_url_means_what_it_means_to_redis_py(url: str, address: RedisAddress) -> None:
    """Host, port, path, database, user and password are taken from the URL, percent-decoded."""
    assert address == parse_redis_url(url)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://:secret@h:1/2", "redis://h:1/2"),
        ("rediss://u:secret@[::1]", "rediss://[::1]:6379/0"),
        ("unix://:secret@/run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        (
            "redis+sentinel://:secret@a,b:1/alerts?sentinel_password=secret",
            "redis+sentinel://a:26379,b:1/alerts/0",
        ),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, text: str) -> None:
    """What logs and messages show of an address names the server and hides the secret."""
    address = parse_redis_url(url)

    assert text == str(address)
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must start with one of redis://"),
        ("localhost:6379", "must start with one of redis://"),
        ("http://localhost", "must start with one of redis://"),
        ("REDIS://localhost", "must start with one of redis://"),
        ("redis://:sec#ret@localhost", "percent-encode"),
        ("redis://:sec ret@localhost", "percent-encode"),
        ("redis://:sec\nret@localhost", "percent-encode"),
        ("redis://:sec/ret@localhost", "percent-encode"),
        ("redis://:sec?ret@localhost", "percent-encode"),
        ("redis+sentinel://:sec/ret@localhost/alerts", "percent-encode"),
        ("redis+sentinel://:sec?ret@localhost/alerts", "percent-encode"),
        ("redis://localhost:port", "percent-encode"),
        ("redis://localhost:99999", "percent-encode"),
        ("redis://[::1", "percent-encode"),
        ("redis://localhost/abc", "must be a number"),
        ("redis://localhost/0/1", "must be a number"),
        ("redis://localhost/-1", "must be a number"),
        ("redis://localhost?db=x", "percent-encode"),
        ("redis://localhost?db=1&ssl_cert_reqs=none", "option ssl_cert_reqs is not supported; known: db"),
        ("redis://localhost?protocol=3&timeout=", "option protocol, timeout is not supported"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("redis+sentinel://a:1", "name the service"),
        ("redis+sentinel:///alerts", "name the Sentinels"),
        ("redis+sentinel://a,,b/alerts", "name the Sentinels"),
        ("redis+sentinel://a:x/alerts", "percent-encode"),
        ("redis+sentinel://a/alerts/x", "must be a number"),
        ("redis+sentinel://a/alerts?db=1", "option db is not supported; known: sentinel_password, sentinel_username"),
    ],
)
def test_what_cannot_be_honoured_is_refused(url: str, message: str) -> None:
    """A URL that asks for what we do not do is an error that says so, without the password."""
    with pytest.raises(SettingsError) as caught:
        parse_redis_url(url)

    assert message in str(caught.value)
    assert "ret" not in str(caught.value)


def test_a_ca_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """A missing CA file, and one without a certificate, are wrong settings: never a fall-back to other authorities."""
    with pytest.raises(SettingsError, match=r"^redis_ca_file: .*missing\.pem cannot be used: No such file"):
        tls_context(tmp_path / "missing.pem")
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    with pytest.raises(SettingsError, match=r"^redis_ca_file: .*empty\.pem cannot be used: "):
        tls_context(empty)
