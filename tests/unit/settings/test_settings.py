"""Settings: sources and their strength, what each may be, what contradicts, and that no secret is ever shown."""

import base64
import copy
import re
import resource
from collections.abc import Mapping
from contextlib import nullcontext
from ipaddress import ip_address, ip_network
from itertools import groupby
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from trio_alerts.channels.registry import channel_settings
from trio_alerts.channels.webhook import WebhookSettings
from trio_alerts.errors import SettingsError
from trio_alerts.secret import Secret, signing_key
from trio_alerts.settings.addresses import OpenSearchAddress, RedisAddress, SqliteAddress, parse_receiver_url
from trio_alerts.settings.settings import RouteSettings, Settings, require_channels, warnings_about
from trio_alerts.settings.sources import load_settings
from trio_alerts.settings.tables import describe

KEY = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
HOOK = "https://hooks.example/T0/abc"


def load(options: Mapping[str, str] | None = None, file: Path | None = None, /, **environ: str) -> Settings:
    variables = {f"TRIO_ALERTS_{name}": text for name, text in environ.items()}
    return load_settings(options or {}, variables, file, channel_settings)


def problems_of(options: Mapping[str, str] | None = None, file: Path | None = None, /, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(options, file, **environ)
    return str(caught.value).splitlines()


@pytest.fixture
def toml(tmp_path: Path) -> "TomlFile":
    return TomlFile(tmp_path / "alerts.toml")


class TomlFile:
    """A configuration file that a test writes and loads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, text: str, **environ: str) -> Settings:
        self.path.write_text(text, "utf-8")
        return load(None, self.path, **environ)

    def problems_of(self, text: str, **environ: str) -> list[str]:
        self.path.write_text(text, "utf-8")
        return problems_of(None, self.path, **environ)


# Sources


def test_defaults_are_those_of_the_design() -> None:
    """With nothing configured each setting has its documented default, in the documented order."""
    assert {
        "redis_url": "`redis://127.0.0.1:6379/0`",
        "redis_ca_file": "none",
        "store_url": "`http://127.0.0.1:9200`",
        "store_ca_file": "none",
        "stream": "`AlertStream`",
        "group": "`alert-processor`",
        "consumer": "host-pid-random",
        "streams": "none",
        "index": "`alerts`",
        "workers": "16",
        "processes": "1",
        "webhook_url": "none",
        "webhook_secret": "none",
        "in_doubt_policy": "`resend`",
        "block_s": "2",
        "batch": "100",
        "redis_timeout_s": "5",
        "store_timeout_s": "10",
        "keepalive_s": "10",
        "claim_idle_s": "45",
        "claim_every_s": "1",
        "max_deliveries": "5",
        "quarantine_halt": "50",
        "connect_timeout_s": "5",
        "send_timeout_s": "15",
        "retry_schedule_s": "5, 30, 120, 300, 900, 1800, 3600, 7200, 14400, 28800, 28800",
        "redrive_every_s": "2",
        "lease_s": "60",
        "grace_s": "25",
        "start_from": "`refuse`",
        "trim": "`off`",
        "trim_keep_s": "86400",
        "keep_records_s": "for ever",
        "networks": "`any`",
        "log_format": "`text` in a terminal, else `json`",
        "http_bind": "none",
        "canary_every_s": "none",
        "console_token": "none",
        "console_user_header": "none",
        "console_networks": "none",
    } == {name: setting.default for name, setting in describe(Settings).items()}


def test_every_default_passes_its_own_check() -> None:
    """Loading nothing gives the defaults, and each default is a value that may also be configured."""
    defaults = Settings(consumer="me")

    assert defaults == load({"consumer": "me"})
    for name, setting in describe(Settings).items():
        value = getattr(defaults, name)
        if value not in (None, ()):
            raw = str(value) if name.endswith("_url") else list(value) if isinstance(value, tuple) else value
            assert value == setting.kind.check(raw)


def test_options_beat_the_environment_which_beats_the_file(toml: TomlFile) -> None:
    """Each setting comes from its strongest source: option, environment, TOML file, default."""
    toml.path.write_text("workers = 2\nbatch = 2\nblock_s = 2.5", "utf-8")
    environ = {"TRIO_ALERTS_WORKERS": "3", "TRIO_ALERTS_BATCH": "3", "WORKERS": "9"}

    settings = load_settings({"workers": "4"}, environ, toml.path, channel_settings)

    assert (4, 3, 2.5, 1.0) == (settings.workers, settings.batch, settings.block_s, settings.claim_every_s)


def test_the_environment_can_name_the_file(toml: TomlFile) -> None:
    """TRIO_ALERTS_CONFIG names the file, and --config is stronger; empty, it names none."""
    toml.path.write_text("workers = 7", "utf-8")

    assert 7 == load(CONFIG=str(toml.path)).workers
    assert 7 == load(None, toml.path, CONFIG="/nowhere").workers
    assert 16 == load(CONFIG="").workers


def test_an_empty_environment_variable_counts_as_not_set(toml: TomlFile) -> None:
    """What a compose file passes on empty changes nothing; an empty option, or a name that is none, is an error."""
    assert 3 == toml.load("workers = 3", WORKERS="", WEBHOOK_URL="", WEBHOOK_SECRET_FILE="").workers
    assert [
        "workers: '' from option --workers is not allowed; it must be a whole number from 1 to 20,000"
    ] == problems_of({"workers": ""})
    assert [
        "environment variable TRIO_ALERTS_WORKER: there is no such setting (did you mean TRIO_ALERTS_WORKERS?)"
    ] == problems_of(WORKER="")


@pytest.mark.parametrize(
    "name",
    [
        "FAULT",
        "TEST_OPENSEARCH_URL",
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP",
        "PORT",
        "PORT_8080_TCP",
        "PORT_8080_TCP_ADDR",
    ],
)
def test_what_others_put_into_the_environment_is_no_setting(name: str) -> None:
    """Fault injection, tests and Kubernetes may use the prefix; other programs' variables are not looked at."""
    environ = {f"TRIO_ALERTS_{name}": "x", "TRIO_ALERT_X": "x", "PATH": "/bin"}

    assert 16 == load_settings({}, environ, None, channel_settings).workers


@pytest.mark.parametrize(
    "name", ["https_bind", "service_hosts", "test", "faults", "xyzzy", "workers_file", "channels", "redis_ca_file_file"]
)
def test_an_unknown_name_is_refused_whatever_its_source(name: str, toml: TomlFile) -> None:
    """A name that is not a setting is an error that says where it was found."""
    variable = f"TRIO_ALERTS_{name.upper()}"

    assert [True] == [
        p.startswith(f"environment variable {variable}: there is no such setting")
        for p in problems_of(**{name.upper(): "1"})
    ]
    assert [True] == [
        p.startswith(f"option --{name.replace('_', '-')}: there is no such") for p in problems_of({name: "1"})
    ]
    if name != "channels":
        assert [True] == [
            p.startswith(f"{toml.path}: {name}: there is no such") for p in toml.problems_of(f"{name} = 1")
        ]


def test_the_nearest_name_is_suggested_as_that_source_spells_it(toml: TomlFile) -> None:
    """An unknown name is answered with the nearest one that exists, if any is near."""
    assert problems_of({"claim_idle": "1"}) == [
        "option --claim-idle: there is no such setting (did you mean --claim-idle-s?)"
    ]
    assert problems_of(CLAIM_IDLE="1") == [
        "environment variable TRIO_ALERTS_CLAIM_IDLE: there is no such setting (did you mean TRIO_ALERTS_CLAIM_IDLE_S?)"
    ]
    assert toml.problems_of("claim_idle = 1") == [
        f"{toml.path}: claim_idle: there is no such setting (did you mean claim_idle_s?)"
    ]
    assert problems_of(XYZZY="1") == ["environment variable TRIO_ALERTS_XYZZY: there is no such setting"]
    assert problems_of(workers="1") == ["environment variable TRIO_ALERTS_workers: there is no such setting"]


def test_all_problems_are_reported_at_once(toml: TomlFile) -> None:
    """One error names everything that is wrong, one problem a line, in every source and table."""
    text = 'batch = "many"\n[[channels]]\nname = "chat"\n[[routes]]\nsuppres = true'

    assert [
        f"{toml.path}: cannot read",
        "environment variable TRIO_ALERTS_WORKRES: there is no such setting",
        "lease_s: 'x' from environment variable TRIO_ALERTS_LEASE_S is not allowed",
    ] == [
        re.split(r" the settings| \(did|; it", line)[0]
        for line in problems_of(None, toml.path, WORKRES="1", LEASE_S="x")
    ]
    assert [
        "environment variable TRIO_ALERTS_WORKRES: there is no such setting (did you mean TRIO_ALERTS_WORKERS?)",
        f"batch: 'many' from {toml.path}: batch is not allowed; it must be a whole number from 1 to 20,000",
        f"{toml.path}, [[channels]] number 1: url is missing; without kind it is a webhook",
        f"{toml.path}, [[routes]] number 1: suppres: there is no such setting (did you mean suppress?)",
    ] == toml.problems_of(text, WORKRES="1")


def test_a_settings_error_is_exit_code_2() -> None:
    """Whoever configures the program learns from the exit code that it is theirs to fix."""
    with pytest.raises(SettingsError) as caught:
        load(WORKERS="0")

    assert 2 == caught.value.exit_code
    assert caught.value.__cause__ is None


# Files


def test_broken_toml_names_file_and_line(toml: TomlFile) -> None:
    """A syntax error is reported with its file and line, beside the problems of other sources."""
    first, second = toml.problems_of("workers = 3\nbatch = = 4\n", WORKERS="0")

    assert first.startswith(f"{toml.path}: not valid TOML: ")
    assert "line 2" in first
    assert second.startswith("workers: '0'")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, a directory and a file that is not text are refused with their path and the reason."""
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"workers = \xff")

    assert [f"{tmp_path}/no.toml: cannot read the settings: No such file or directory"] == problems_of(
        CONFIG=f"{tmp_path}/no.toml"
    )
    assert [f"{tmp_path}: cannot read the settings: Is a directory"] == problems_of(CONFIG=str(tmp_path))
    assert [f"{binary}: not UTF-8 text at byte 10"] == problems_of(CONFIG=str(binary))


@pytest.mark.parametrize("name", ["webhook_secret", "webhook_url", "redis_url", "store_url"])
def test_a_secret_can_come_from_a_file(name: str, tmp_path: Path, toml: TomlFile) -> None:
    """`…_FILE` and `…_file` name a file that holds the value; line breaks at its end do not belong to it."""
    text, value = {
        "webhook_secret": (KEY, Secret(KEY)),
        "webhook_url": (HOOK, parse_receiver_url(HOOK)),
        "redis_url": ("redis://:pw@h/1", RedisAddress("h", db=1, password=Secret("pw"))),
        "store_url": ("https://u:p@h", OpenSearchAddress(("https://h:443",), "u", Secret("p"))),
    }[name]
    file = tmp_path / "secret"
    file.write_text(f"{text}\r\n", "utf-8")
    hook = {"WEBHOOK_URL": HOOK} if name == "webhook_secret" else {}

    for settings in (
        load(**{f"{name.upper()}_FILE": str(file)}, **hook),
        load({f"{name}_file": str(file)}, **hook),
        toml.load(f'{name}_file = "{file}"', **hook),
    ):
        assert value == getattr(settings, name)


def test_a_secret_file_that_cannot_be_used_is_reported(tmp_path: Path, toml: TomlFile) -> None:
    """A missing, empty or binary secret file is an error that names the setting, its source and the file."""
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "empty").write_text("\n", "utf-8")
    source = "environment variable TRIO_ALERTS_WEBHOOK_SECRET_FILE"
    must = "it must be base64, with or without the prefix whsec_"

    assert [f"webhook_secret: cannot read {tmp_path}/no that {source} names: No such file or directory"] == problems_of(
        WEBHOOK_URL=HOOK, WEBHOOK_SECRET_FILE=f"{tmp_path}/no"
    )
    assert [
        f"webhook_secret: the value from {source} is not allowed (the file is not UTF-8 text); {must}"
    ] == problems_of(WEBHOOK_URL=HOOK, WEBHOOK_SECRET_FILE=f"{tmp_path}/binary")
    assert [f"webhook_secret: the value from {source} is not allowed (it is empty); {must}"] == problems_of(
        WEBHOOK_URL=HOOK, WEBHOOK_SECRET_FILE=f"{tmp_path}/empty"
    )
    assert "(the path of a file must be text)" in toml.problems_of("webhook_secret_file = 3", WEBHOOK_URL=HOOK)[0]
    # The likely mistake, the secret itself in place of its file, does not print it.
    assert [f"webhook_secret: cannot read the file that {source} names: No such file or directory"] == problems_of(
        WEBHOOK_URL=HOOK, WEBHOOK_SECRET_FILE=KEY
    )


def test_a_value_and_its_file_in_one_source_contradict(tmp_path: Path) -> None:
    """Two values for one setting in one source are an error; in two sources the stronger one counts."""
    file = tmp_path / "url"
    file.write_text("https://file.example", "utf-8")

    source = "environment variable TRIO_ALERTS_WEBHOOK_URL"
    assert [f"webhook_url: given twice, by {source} and by {source}_FILE; keep one"] == problems_of(
        WEBHOOK_URL=HOOK, WEBHOOK_URL_FILE=str(file)
    )
    assert (
        parse_receiver_url("https://file.example")
        == load({"webhook_url_file": str(file)}, WEBHOOK_URL=HOOK).webhook_url
    )


# Values

GOOD: list[tuple[str, str, object]] = [
    ("workers", "1", 1),
    ("workers", "20000", 20_000),
    ("batch", "1", 1),
    ("block_s", "0.01", 0.01),
    ("block_s", "2", 2.0),
    ("grace_s", "0", 0.0),
    ("trim_keep_s", "0", 0.0),
    ("max_deliveries", "2", 2),
    ("quarantine_halt", "1", 1),
    ("retry_schedule_s", "5,30,120", (5.0, 30.0, 120.0)),
    ("retry_schedule_s", "0.5, 0.5", (0.5, 0.5)),
    ("retry_schedule_s", "7", (7.0,)),
    ("streams", "AlertStream:{0}, AlertStream:{1}", ("AlertStream:{0}", "AlertStream:{1}")),
    ("stream", "Ströme | 1", "Ströme | 1"),
    ("stream", "x" * 256, "x" * 256),
    ("consumer", "me", "me"),
    ("index", "alerts-2.prod", "alerts-2.prod"),
    ("index", "a" * 248, "a" * 248),
    ("in_doubt_policy", "hold", "hold"),
    ("start_from", "0", "0"),
    ("start_from", "now", "now"),
    ("trim", "acked", "acked"),
    ("log_format", "json", "json"),
    ("networks", "public", "public"),
    ("networks", "10.0.0.0/8, fd00::/8", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
    ("networks", "192.168.1.5", (ip_network("192.168.1.5/32"),)),
    ("redis_url", "redis://h", RedisAddress("h")),
    ("store_url", "http://h", OpenSearchAddress(("http://h:9200",))),
    ("store_url", "sqlite:///alerts.db", SqliteAddress("alerts.db")),
    *(("webhook_url", url, parse_receiver_url(url)) for url in (
        HOOK, "http://127.0.0.1:8080", "https://u:p@h/x?token=1", "http://zürich.example/x", "http://a_b.example./",
        "http://127.1/", "http://h?x=1",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_good_values_are_taken(name: str, text: str, value: object) -> None:
    """What a setting may be is taken from text, in its own type."""
    given_value = getattr(load({name: text}), name)

    assert value == given_value
    assert type(value) is type(given_value)


BAD: list[tuple[str, str]] = [
    *(("workers", text) for text in ("0", "20001", "-1", "1.5", "16.0", "many", "1e3", "1_000", "٣", " 3", "9" * 5000)),
    *(("batch", text) for text in ("0", "x")),
    *(("max_deliveries", text) for text in ("1", "0")),
    ("quarantine_halt", "0"),
    *(("block_s", text) for text in ("0", "-1", "0.001", "nan", "inf", "-inf", "1e1", "1.", ".5", "3601", "")),
    *(("redis_timeout_s", text) for text in ("0", "0.0", "31536001", "9" * 20)),
    *(("retry_schedule_s", text) for text in ("", "5,,30", "5,0", "-5", "5;30", "5,nan", ",")),
    *(("grace_s", text) for text in ("-0.1", "nan")),
    *((name, text) for name in ("stream", "group", "consumer")
      for text in ("", " ", " x", "x ", "a\nb", "a\x00b", "a\tb", "\udcff", "x" * 257, "é" * 129)),
    *(("streams", text) for text in ("", "a,,b", "a,a", "a, a")),
    *(("index", text) for text in (
        "", ".", "..", "Alerts", "-a", "_a", "+a", "a b", "a/b", "a\\b", "a*", "a?", 'a"', "a<", "a>", "a|", "a,b",
        "a#", "a:b", "a" * 249, "é" * 125, "a\n",
    )),
    *(("in_doubt_policy", text) for text in ("", "Resend", "drop")),
    *(("start_from", text) for text in ("", "00", "$", "latest")),
    *(("trim", text) for text in ("on", "true")),
    ("log_format", "logfmt"),
    *(("networks", text) for text in ("", "private", "any,public", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8,", "1")),
    *(("redis_ca_file", text) for text in ("", "/nowhere/ca.pem", "/")),
    *((name, "") for name in ("redis_url", "store_url", "webhook_url")),
    *(("webhook_secret", text) for text in (
        "", "whsec_", "not base64!", "whsec_abc-_def", "abcde", "ab=cd", "whsec_whsec_====", " " + KEY,
        KEY + "\n", "ключ",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), BAD)
def test_bad_values_are_refused(name: str, text: str) -> None:
    """What a setting may not be is refused in one line that says name, source and rule."""
    hook = {"webhook_url": HOOK} if name == "webhook_secret" else {}

    (problem,) = problems_of({name: text, **hook})

    assert problem.startswith(f"{name}: ")
    assert f" from option --{name.replace('_', '-')} is not allowed" in problem
    assert problem.endswith(f"; it must be {describe(Settings)[name].kind.allowed}")
    problem.encode()


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ('networks = ["10.0.0.1/8"]', "(10.0.0.1/8 has host bits set)"),
        (f'stream = "{"é" * 129}"', "(it has 258 bytes)"),
        (f'index = "{"é" * 125}"', "(it has 250 bytes)"),
        ('streams = ["a", "a"]', "(one of them is given twice)"),
        ('store_ca_file = "/nowhere"', "(there is no such file)"),
    ],
)
def test_a_refusal_says_what_exactly_is_wrong(text: str, detail: str, toml: TomlFile) -> None:
    """Where the rule alone does not tell, the message adds what is wrong with this value."""
    assert detail in toml.problems_of(text)[0]


@pytest.mark.parametrize(
    "text",
    [
        'workers = "16"',
        "workers = true",
        "workers = 16.0",
        'block_s = "2"',
        "block_s = true",
        "block_s = nan",
        "block_s = inf",
        f"block_s = 1{'0' * 400}",
        "retry_schedule_s = 5",
        "retry_schedule_s = []",
        'retry_schedule_s = ["5"]',
        "stream = 5",
        'streams = "a"',
        "start_from = 0",
        "log_format = []",
        "networks = []",
        "networks = 1",
        "networks = [167772160]",
        "redis_url = 1",
        "webhook_secret = 1",
        "redis_ca_file = 1",
        "stream = 2026-01-01",
        "index = {}",
    ],
)
def test_toml_values_must_have_the_right_type(text: str, toml: TomlFile) -> None:
    """TOML has types, so a number in quotes, a boolean for a number, or a single value for a list is a mistake."""
    problems = toml.problems_of(text, WEBHOOK_URL=HOOK)

    assert [text.partition(" ")[0]] == [problem.partition(":")[0] for problem in problems]


def test_toml_takes_lists_and_numbers(toml: TomlFile) -> None:
    """In TOML lists are lists, and seconds may be whole or decimal."""
    settings = toml.load(
        'retry_schedule_s = [1, 2.5]\nstreams = ["a", "b"]\nnetworks = ["10.0.0.0/8"]\nlease_s = 61\nworkers = 3'
    )

    assert (1.0, 2.5) == settings.retry_schedule_s
    assert ("a", "b") == settings.stream_names
    assert (ip_network("10.0.0.0/8"),) == settings.networks
    assert (61.0, 3) == (settings.lease_s, settings.workers)


def test_long_values_are_cut_in_messages() -> None:
    """A message stays one readable line, however long the value."""
    assert 250 > len(problems_of({"workers": "x" * 10_000})[0])


@given(st.decimals(min_value="0.01", max_value=3600, allow_nan=False, places=3))
def test_any_decimal_in_range_is_taken_exactly(value: object) -> None:
    """Seconds written as a decimal mean that number."""
    assert float(str(value)) == load({"block_s": str(value)}).block_s


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(sorted(describe(Settings))), st.text("abcdefgh_", max_size=8)),
        st.text(max_size=20),
        max_size=4,
    )
)
def test_any_environment_is_loaded_or_refused_clearly(texts: dict[str, str]) -> None:
    """Whatever stands in the environment, the answer is settings or a SettingsError, never another exception."""
    try:
        load(**{name.upper(): text for name, text in texts.items() if name != "config"})
    except SettingsError as error:
        assert str(error)  # noqa: PT017 - both outcomes are right


# Rules between settings


@pytest.mark.parametrize(
    "options",
    [
        {"keepalive_s": "15", "claim_idle_s": "45"},
        {"keepalive_s": "0.1", "claim_idle_s": "0.3"},
        {"lease_s": "20.01"},
        {"lease_s": "0.4", "connect_timeout_s": "0.1", "send_timeout_s": "0.2"},
        {"webhook_url": HOOK, "webhook_secret": KEY},
    ],
)
def test_settings_that_go_together_are_taken(options: dict[str, str]) -> None:
    """The limits between settings are as documented, floating point noise left out."""
    load(options)


def test_entries_must_be_renewed_three_times_before_they_can_be_claimed() -> None:
    """claim_idle_s below three times keepalive_s is refused, with both values and where they come from."""
    rule = "claim_idle_s (45, default) must be at least 3 times keepalive_s (15.1, option --keepalive-s)"
    assert [f"{rule}: otherwise live workers lose their entries"] == problems_of({"keepalive_s": "15.1"})


@pytest.mark.parametrize(
    "options",
    [
        {"lease_s": "20"},
        {"lease_s": "19"},
        {"send_timeout_s": "60"},
        {"lease_s": "0.8", "connect_timeout_s": "0.1", "send_timeout_s": "0.7"},
    ],
)
def test_a_lease_must_outlive_an_attempt(options: dict[str, str]) -> None:
    """lease_s that is not above connect_timeout_s + send_timeout_s is refused."""
    (problem,) = problems_of(options)

    assert re.match(r"lease_s \(.*\) must be more than connect_timeout_s \(.*\) \+ send_timeout_s \(.*\): ", problem)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({}, "103,146: retry_schedule_s may last that long"),
        ({"retry_schedule_s": "60"}, "225: max_deliveries times claim_idle_s may take that long"),
        (
            {"retry_schedule_s": "5", "claim_idle_s": "30", "trim": "acked", "trim_keep_s": "7200"},
            "7,200: trim_keep_s keeps entries in the stream for that long",
        ),
    ],
)
def test_no_alert_outlives_its_record(options: dict[str, str], rule: str) -> None:
    """keep_records_s that is below what an alert may take is refused, and says which setting it is about."""
    least_s = float(rule.partition(":")[0].replace(",", ""))
    load({**options, "keep_records_s": f"{least_s:g}"})
    problem = f"keep_records_s ({least_s - 1:g}, option --keep-records-s) must be at least {rule}"
    assert problem in problems_of({**options, "keep_records_s": f"{least_s - 1:g}"})


def test_rules_between_settings_wait_until_each_is_right_by_itself() -> None:
    """A wrong value is reported once, not again by the rules it takes part in."""
    (problem,) = problems_of({"keepalive_s": "nan", "claim_idle_s": "1"})

    assert problem.startswith("keepalive_s: 'nan'")


def test_stream_and_streams_exclude_each_other(toml: TomlFile) -> None:
    """Even the default's own name beside `streams` is refused: one of the two would not be read."""
    assert [f"streams ({toml.path}: streams): stream and streams exclude each other"] == toml.problems_of(
        'streams = ["a"]', STREAM="AlertStream"
    )
    assert ("AlertStream",) == load().stream_names
    assert ("a",) == load(STREAM="a").stream_names
    assert ("a", "b") == load(STREAMS="a,b").stream_names


def test_canaries_are_for_who_can_be_asked_about_them(toml: TomlFile) -> None:
    """Nobody would see them without `http_bind`; and two periods may not end before a process is known to hang."""
    where = f"canary_every_s ({toml.path}: canary_every_s)"
    assert [f"{where}: nobody would see it without http_bind"] == toml.problems_of("canary_every_s = 60")
    assert 5.0 == load(CANARY_EVERY_S="5", HTTP_BIND="127.0.0.1:8080").canary_every_s
    assert 1 == len(toml.problems_of('canary_every_s = 4.9\nhttp_bind = "127.0.0.1:8080"'))
    assert None is load().canary_every_s


def test_no_stream_has_records_that_look_like_those_of_canaries(toml: TomlFile) -> None:
    """Among several, a record's ID begins with its stream's name."""
    rule = "'~canary' would make records look like those of canaries"
    assert [f"streams ({toml.path}: streams): {rule}"] == toml.problems_of('streams = ["~canary", "b"]')
    assert 1 == len(toml.problems_of('streams = ["~canary|a", "b"]'))
    assert ("canary", "~canaries") == load(STREAMS="canary,~canaries").stream_names


def test_streams_that_would_share_their_keys_are_refused(toml: TomlFile) -> None:
    """What lies beside a stream has its name in braces, unless that has braces already."""
    rule = "'a' and '{a}' would share their keys in Redis, dead letters included"
    assert [f"streams ({toml.path}: streams): {rule}"] == toml.problems_of('streams = ["{a}", "b", "a"]')
    assert ("{a}1", "a", "{b}") == load(STREAMS="{a}1,a,{b}").stream_names


def test_a_ca_file_without_certificates_is_refused_with_all_other_faults(tmp_path: Path) -> None:
    """CA files are loaded when settings are read, so a wrong one is found before any backend is asked."""
    empty = tmp_path / "ca.pem"
    empty.write_text("", "utf-8")
    files = {"redis_ca_file": str(empty), "store_ca_file": str(empty)}

    bad_redis, bad_store, bad_workers = problems_of({**files, "workers": "0"})

    assert bad_redis.startswith(f"redis_ca_file: {str(empty)!r} from option --redis-ca-file is not allowed (no CA cert")
    assert bad_store.startswith(f"store_ca_file: {str(empty)!r} from option --store-ca-file is not allowed (no CA cert")
    assert bad_workers.startswith("workers: ")


def test_a_setting_that_does_nothing_is_refused(tmp_path: Path) -> None:
    """A secret without its URL and a CA file without TLS are mistakes; with them they are taken."""
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca)
    option = {"redis_ca_file": str(ca), "store_ca_file": str(ca)}

    assert ["webhook_secret (option --webhook-secret): it does nothing without webhook_url"] == problems_of(
        {"webhook_secret": KEY}
    )
    assert [
        "redis_ca_file (option --redis-ca-file): it does nothing without TLS: redis_url must be rediss://",
        "store_ca_file (option --store-ca-file): it does nothing without TLS: store_url must be https://",
    ] == problems_of(option)
    assert 1 == len(problems_of({**option, "redis_url": "unix:///x", "store_url": "https://h"}))
    assert 1 == len(problems_of({**option, "redis_url": "redis+sentinel://h/main", "store_url": "https://h"}))
    assert 1 == len(problems_of({**option, "redis_url": "rediss://h", "store_url": "sqlite:///x"}))
    assert ca == load({**option, "redis_url": "RedisS://h", "store_url": "https://h"}).store_ca_file


# Channels and routes


def test_the_short_form_is_a_channel_named_webhook(toml: TomlFile) -> None:
    """webhook_url makes the first channel, with the webhook secret and the global policy; without it there is none."""
    text = '[[channels]]\nname = "chat"\nurl = "https://chat.example/x"'
    settings = toml.load(text, WEBHOOK_URL=HOOK, WEBHOOK_SECRET=KEY, IN_DOUBT_POLICY="hold")

    assert (
        WebhookSettings(name="webhook", url=parse_receiver_url(HOOK), secret=Secret(KEY), in_doubt_policy="hold"),
        WebhookSettings(name="chat", url=parse_receiver_url("https://chat.example/x"), in_doubt_policy="hold"),
    ) == settings.channels
    assert ("chat",) == tuple(channel.name for channel in toml.load(text).channels)
    assert () == load().channels


def test_a_channel_table_is_read_whole(toml: TomlFile) -> None:
    """Every key of [[channels]] is taken, secrets also from files; its own policy beats the global one."""
    secret = toml.path.with_name("secret")
    secret.write_text(KEY + "\n", "utf-8")

    (channel,) = toml.load(
        f"""
        in_doubt_policy = "hold"
        [[channels]]
        name = "pager-1"
        kind = "webhook"
        url = "{HOOK}"
        secret_file = "{secret}"
        in_doubt_policy = "resend"
        headers = {{ Authorization = "Bearer abc", "X-Team" = "risk" }}
        """
    ).channels

    assert isinstance(channel, WebhookSettings)
    assert ("pager-1", "webhook", "resend") == (channel.name, channel.kind, channel.in_doubt_policy)
    assert (HOOK, KEY) == (channel.url.text.reveal(), channel.secret.reveal() if channel.secret else None)
    assert {"Authorization": "Bearer abc", "X-Team": "risk"} == {k: v.reveal() for k, v in channel.headers.items()}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('name = "a b"', "name: 'a b' from"),
        ('name = "a.b"', "name: 'a.b' from"),
        ("name = 1", "name: 1 from"),
        (f'name = "{"a" * 65}"', "name: 'aaa"),
        ('url = "ftp://h"', "url: the value from"),
        ('url_file = "/nowhere"', "url: cannot read /nowhere that"),
        ('secret = "!"', "secret: the value from"),
        ('kind = "smtp"', "kind: 'smtp' from"),
        ('kind = "PagerDuty"', "(did you mean pagerduty?)"),
        ('in_doubt_policy = "drop"', "in_doubt_policy: 'drop' from"),
        *((f"rate_per_s = {wrong}", "rate_per_s: ") for wrong in ("0", "-1", "nan", "true", '"1"', "10_001")),
        *((f"rate_per_s = 1\nburst = {wrong}", "burst: ") for wrong in ("0", "1.5", "true", "10_001")),
        ("headers = 1", "headers: the value from"),
        ('headers = { "a b" = "x" }', "'a b' is not a header name"),
        ('headers = { "Webhook-Id" = "x" }', "'Webhook-Id' is set by the channel itself"),
        ('headers = { "Content-Length" = "x" }', "'Content-Length' is set by the channel itself"),
        ('headers = { Host = "x" }', "'Host' is set by the channel itself"),
        ('headers = { a = "x\\r\\nb: y" }', "the value of 'a' must be printable ASCII"),
        ('headers = { a = " x" }', "the value of 'a' must be printable ASCII"),
        ('headers = { a = "é" }', "the value of 'a' must be printable ASCII"),
        ("headers = { a = 1 }", "the value of 'a' must be printable ASCII"),
        ('headers = { a = "x", A = "y" }', "one of them is given twice"),
        ('heders = { a = "x" }', "[[channels]] number 2: heders: there is no such setting (did you mean headers?)"),
    ],
)
def test_a_wrong_channel_is_refused(line: str, problem: str, toml: TomlFile) -> None:
    """Each key of [[channels]] is checked, and the message says in which table it stands."""
    keys = {"name": 'name = "b"', "url": f'url = "{HOOK}"'}
    rest = [text for key, text in keys.items() if key not in (line.partition(" ")[0], line.partition("_file")[0])]
    text = "\n".join(["[[channels]]", *keys.values(), "[[channels]]", line, *rest]).replace(
        'name = "b"', 'name = "a"', 1
    )

    (message,) = toml.problems_of(text)

    assert problem in message
    assert f"{toml.path}, [[channels]] number 2" in message


def test_a_header_can_come_from_a_file(toml: TomlFile) -> None:
    """`NAME_file` names the file that holds a header's value, as for every other secret; it is no header itself."""
    token = toml.path.with_name("token")
    token.write_text("Bearer abc\r\n", "utf-8")
    table = f'[[channels]]\nname = "a"\nurl = "{HOOK}"\nheaders = {{ %s }}'

    (channel,) = toml.load(table % f'Authorization_file = "{token}", X_File = "{token}"').channels

    assert isinstance(channel, WebhookSettings)
    assert {"Authorization": "Bearer abc", "X": "Bearer abc"} == {k: v.reveal() for k, v in channel.headers.items()}
    for headers, problem in (
        ('Authorization_file = "/nowhere"', "(the file that 'Authorization_file' names cannot be read: No such file"),
        ("Authorization_file = 1", "(the path of a file must be text)"),
        (f'Authorization = "x", authorization_file = "{token}"', "(one of them is given twice)"),
        (f'Host_file = "{token}"', "('Host' is set by the channel itself)"),
        (f'_file = "{token}"', "('' is not a header name)"),
        (f'Authorization_file = "{MARK}"', "cannot be read: No such file"),
    ):
        (message,) = toml.problems_of(table % headers)
        assert problem in message
        assert MARK not in message


def test_a_user_in_the_url_and_an_authorization_header_exclude_each_other(toml: TomlFile) -> None:
    """Only one Authorization can be sent: which one is meant, somebody must say."""
    table = '[[channels]]\nname = "a"\nurl = "https://%sh/x"\nheaders = { authorization = "Bearer abc" }'

    assert [
        "channel 'a': its url has a user, and its headers have Authorization: only one of them can be sent"
    ] == toml.problems_of(table % "u:p@")
    assert 1 == len(toml.load(table % "").channels)
    assert 1 == len(toml.load(table % "@").channels)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("169.254.169.254", "169.254.169.254"),
        ("2852039166", "169.254.169.254"),
        ("0xa9fea9fe", "169.254.169.254"),
        ("169.254.43518", "169.254.169.254"),
        ("169.254.169.254.", "169.254.169.254"),
        ("u:p@169.254.169.254:80", "169.254.169.254"),
        ("[::ffff:169.254.169.254]", str(ip_address("::ffff:a9fe:a9fe"))),  # newer Pythons write its end as IPv4
        ("[fe80::1%25lo]", "fe80::1%25lo"),
        ("0", "0.0.0.0"),
        ("[::]", "::"),
    ],
)
def test_an_address_that_is_never_allowed_is_refused(host: str, address: str, toml: TomlFile) -> None:
    """A channel that can never work is known without the network, however its address is spelled."""
    table = f'[[channels]]\nname = "a"\nurl = "http://{host}/{MARK}"'

    (problem,) = toml.problems_of(table)

    assert problem.startswith(f"channel 'a': nothing can ever be sent to {address} (")
    assert problem.endswith("; see the setting networks")
    assert MARK not in problem


@pytest.mark.parametrize(
    ("networks", "refused"), [("any", False), ("public", True), ("10.0.0.0/8", True), ("127.0.0.0/8,10.0.0.0/8", False)]
)
def test_an_address_is_judged_by_the_networks_that_are_set(networks: str, refused: bool) -> None:
    """The same guard as in front of every connection; a name may lead anywhere, and is judged when it is looked up."""
    load({"webhook_url": "http://localhost:8080/x", "networks": networks})
    with pytest.raises(SettingsError) if refused else nullcontext():
        load({"webhook_url": "http://127.1:8080/x", "networks": networks})


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "9" * 5_000,
        "x = " + "[" * 5_000,
        "workers = 0x" + "f" * 9_000,
        "workers = { a" + ".a" * 3_000 + " = 1 }",
        "[[routes]]\nmatch = { a" + ".a" * 3_000 + " = 1 }",
        "[[routes]]\nmatch = { a = 0x" + "f" * 9_000 + " }",
    ],
    ids=lambda text: text[:25],
)
def test_a_file_that_no_human_wrote_is_refused_like_any_other(text: str, toml: TomlFile) -> None:
    """Numbers of thousands of digits and tables as deep as the file is long are refused, not run into."""
    assert toml.problems_of(text)[0].startswith((str(toml.path), "workers: ", "match: "))


@pytest.mark.parametrize("name", ["workers", "stream_", "networks", "redis_ca_file", "log_format"])
def test_an_address_in_the_wrong_place_is_not_shown(name: str) -> None:
    """Whoever confuses two variables does not print a password by it."""
    (problem,) = problems_of({name: f"redis://:{MARK}@h"})

    assert MARK not in problem


def test_a_name_that_is_none_cannot_forge_a_line(toml: TomlFile) -> None:
    """What is shown of an unknown name stays on its line, and is short."""
    (problem,) = toml.problems_of('"work\\nforged: all is well\\u001b[2J' + "x" * 1_000 + '" = 1')

    assert "work\\nforged: all is well\\x1b[2J" in problem
    assert len(problem) < 300 + len(str(toml.path))


def test_a_channel_may_have_a_rate(toml: TomlFile) -> None:
    """Slack has its own if nothing is said, since Slack has; others have none, and then no burst."""
    table = f'[[channels]]\nname = "%s"\nurl = "{HOOK}"\n'
    text = table % "a" + "rate_per_s = 0.5\nburst = 10\n" + table % "b" + "rate_per_s = 2\n" + table % "c"
    channels = toml.load(text + table % "d" + 'kind = "slack"\n').channels

    assert [(0.5, 10), (2.0, None), (None, None), (1.0, 3)] == [(one.rate_per_s, one.burst) for one in channels]
    assert ["channel 'a': burst does nothing without rate_per_s"] == toml.problems_of(table % "a" + "burst = 3")


def test_channel_names_are_unique(toml: TomlFile) -> None:
    """Two channels of one name are refused, the one that webhook_url makes included."""
    table = f'[[channels]]\nname = "webhook"\nurl = "{HOOK}"\n'
    problem, remedy = "2 channels are named 'webhook'", "; each needs a name of its own"

    assert [problem + remedy] == toml.problems_of(table + table)
    assert [f"{problem} (webhook_url makes one of them){remedy}"] == toml.problems_of(table, WEBHOOK_URL=HOOK)


@pytest.mark.parametrize(
    "text", ['channels = "x"', "channels = [1]", "[channels]\nname = 'a'", "[routes]", "routes = 1"]
)
def test_tables_need_double_brackets(text: str, toml: TomlFile) -> None:
    """[channels] where [[channels]] is meant is refused with that hint."""
    (problem,) = toml.problems_of(text)

    assert re.search(r", \[\[(channels|routes)\]\]: this must be a list of tables", problem)


def test_a_route_table_is_read_whole(toml: TomlFile) -> None:
    """Routes keep their order; values become tuples of text, dotted labels one name, a missing name the number."""
    settings = toml.load(
        """
        [[routes]]
        name = "quiet nights"
        match = { severity = ">=high", chain_id = [1, 10], "labels.a/b" = "x", labels.team.sub = "y" }
        suppress = true
        [[routes]]
        matchers = ['view != "a*"', "severity > low"]
        active = [{ days = ["mon"], tz = "Europe/Zurich" }, { from = "08:00" }]
        continue = true
        channels = ["pager", "chat"]
        fallback = ["email"]
        fallback_after_s = 90
        """
    )

    assert (
        RouteSettings(
            name="quiet nights",
            match={"severity": (">=high",), "chain_id": ("1", "10"), "labels.a/b": ("x",), "labels.team.sub": ("y",)},
            suppress=True,
        ),
        RouteSettings(
            name="route-2",
            matchers=('view != "a*"', "severity > low"),
            active=({"days": ["mon"], "tz": "Europe/Zurich"}, {"from": "08:00"}),
            continues=True,
            channels=("pager", "chat"),
            fallback=("email",),
            fallback_after_s=90.0,
        ),
    ) == settings.routes


@pytest.mark.parametrize(
    "line",
    [
        "match = 1",
        "match = { view = [] }",
        "match = { view = true }",
        "match = { view = 1.5 }",
        "match = { view = [true] }",
        "match = { labels.team = [[]] }",
        "matchers = 'view = a'",
        "matchers = []",
        "matchers = ['']",
        "matchers = ['view = a', 'view = a']",
        "active = { tz = 'UTC' }",
        "active = []",
        "active = ['mon-fri']",
        "continue = 'yes'",
        "channels = 'a'",
        "channels = []",
        "channels = ['a', 'a']",
        "channels = ['a b']",
        "fallback = 'a'",
        "fallback = ['a', 'a']",
        "fallback_after_s = -1",
        "fallback_after_s = 0",
        "fallback_after_s = 'soon'",
        "suppress = 'yes'",
        "suppress = 1",
        "name = ''",
    ],
)
def test_a_wrong_route_is_refused(line: str, toml: TomlFile) -> None:
    """Each key of [[routes]] is checked."""
    (problem,) = toml.problems_of(f"[[routes]]\n{line}")

    assert problem.startswith(f"{line.partition(' ')[0]}: ")
    assert f"{toml.path}, [[routes]] number 1" in problem


def test_a_channel_may_have_been_known_by_other_names(toml: TomlFile) -> None:
    """Aliases are names for `hold` too, and no name or alias may mean two channels."""
    table = '[[channels]]\nname = "%s"\nurl = "https://h/x"\naliases = ["%s"]\nin_doubt_policy = "hold"\n'

    assert {"pager", "old"} == toml.load(table % ("pager", "old")).holding_channels
    for tables, problem in (
        (table % ("a", "a"), "channel 'a': the alias 'a' is its own name"),
        (table % ("a", "b") + table % ("b", "c"), "channel 'a': the alias 'b' is a name of channel 'b', too"),
        (table % ("a", "b") + table % ("c", "b"), "channel 'c': the alias 'b' is a name of channel 'a', too"),
    ):
        assert [f"{problem}; remove it"] == toml.problems_of(tables)


def test_running_needs_a_channel() -> None:
    """Without any channel `run` is refused with a hint; with one it is not."""
    with pytest.raises(SettingsError, match=r"set webhook_url .*TRIO_ALERTS_WEBHOOK_URL"):
        require_channels(load())
    require_channels(load(WEBHOOK_URL=HOOK))


# Secrets


def test_a_secret_is_shown_by_nothing_but_reveal() -> None:
    """Printing, formatting and copying a secret shows asterisks; equality and hashing go by its text."""
    secret = Secret("hush")

    assert ["***"] * 4 == [repr(secret), str(secret), f"{secret}", f"{copy.deepcopy(secret)!r}"]
    assert "hush" == secret.reveal()
    assert not hasattr(secret, "__dict__")
    assert Secret("hush") == secret
    assert Secret("other") != secret
    assert "hush" != secret
    assert 1 == len({secret, Secret("hush")})


MARK = "S3CR3T"
NEAR = st.text(st.sampled_from(list("/?#@:,[]%&=\\ \n.1a")), max_size=4)


@given(
    name=st.sampled_from(["redis_url", "store_url", "webhook_url"]),
    scheme=st.sampled_from(["redis", "rediss", "unix", "http", "https", "redis+sentinel", "sqlite", "ftp"]),
    before=NEAR,
    after=NEAR,
    tail=st.sampled_from(["@h", "@h:1/0", "@h/x?y", "@a,b/0", "@/run/x"]),
)
def test_no_password_is_ever_shown(name: str, scheme: str, before: str, after: str, tail: str) -> None:
    """However a password is written, escaped or not, neither settings nor messages contain it."""
    url = f"{scheme}://user:{before}{MARK}{after}{tail}"
    try:
        shown = repr(load({name: url}))
    except SettingsError as error:
        shown = str(error)

    assert MARK not in shown


def test_neither_settings_nor_messages_show_secrets(toml: TomlFile) -> None:
    """The repr of good settings and the messages about bad ones are free of secrets, headers included."""
    text = f'[[channels]]\nname = "a"\nurl = "https://h/{MARK}"\nsecret = "%s"\nheaders = {{ a = "{MARK}%s" }}'
    good = toml.load(text % (MARK + "aa", ""), WEBHOOK_URL=f"https://h/{MARK}", REDIS_URL=f"redis://:{MARK}@h")
    problems = toml.problems_of(text % (MARK + "!", "é"), WEBHOOK_URL=f"ftp://h/{MARK}", REDIS_URL=f"redis://:{MARK}")

    assert MARK not in repr(good)
    assert isinstance(good.channels[1], WebhookSettings)
    assert MARK in good.channels[1].headers["a"].reveal()
    assert 4 == len(problems)
    assert MARK not in "".join(problems)


@given(st.binary(min_size=1, max_size=80), st.booleans(), st.booleans())
def test_the_signing_key_is_that_of_the_official_library(key: bytes, prefixed: bool, padded: bool) -> None:
    """For every base64 secret, with or without prefix and padding, both ends sign with the same key."""
    text = base64.b64encode(key).decode()
    secret = ("whsec_" if prefixed else "") + (text if padded else text.rstrip("="))

    assert key == signing_key(Secret(secret))
    assert key == Webhook(secret)._whsecret


def test_short_keys_get_a_warning() -> None:
    """A key below 24 bytes is used, but `check` and the log at start say so, without the key."""
    short = load(WEBHOOK_URL=HOOK, WEBHOOK_SECRET="c2VjcmV0")
    (warning,) = warnings_about(short)

    assert warning.startswith("the secret of channel 'webhook' has 6 bytes")
    assert "c2VjcmV0" not in warning
    assert [] == warnings_about(load(WEBHOOK_URL=HOOK, WEBHOOK_SECRET=KEY))
    assert [] == warnings_about(load(WEBHOOK_URL=HOOK))


@pytest.mark.parametrize(("allowed", "warned"), [(1063, True), (1064, False), (resource.RLIM_INFINITY, False)])
def test_too_few_open_files_get_a_warning(allowed: int, warned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waiting worker holds a connection: the warning says how many files are needed and how many may be open."""
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (256, allowed))
    warnings = warnings_about(load(WEBHOOK_URL=HOOK, WORKERS="1000"))

    assert warned == any(
        f"1000 workers may need more than 1064 open files, and this process gets {allowed}" in one for one in warnings
    )


# Documentation


@pytest.mark.parametrize("table", [Settings, WebhookSettings, RouteSettings])
def test_every_setting_describes_itself(table: type[Settings | WebhookSettings | RouteSettings]) -> None:
    """Each field has a meaning and a rule, those of `Settings` a section, and a section is in one piece."""
    settings = describe(table).values()

    assert all(setting.meaning.endswith(".") and setting.kind.allowed for setting in settings)
    assert (table is Settings) == all(setting.section for setting in settings)
    sections = [section for section, _ in groupby(settings, lambda setting: setting.section)]
    assert len(set(sections)) == len(sections)


def test_what_must_be_given_has_no_default() -> None:
    """A channel needs a name and a URL; what is off or empty says so."""
    assert ["name", "url"] == [name for name, setting in describe(WebhookSettings).items() if setting.default is None]
    assert ("false", "none") == (describe(RouteSettings)["suppress"].default, describe(Settings)["streams"].default)


def test_each_process_is_another_consumer() -> None:
    """The default consumer names host and process and is never the same twice, but stays the same within settings."""
    settings = load()

    assert settings.consumer == settings.consumer
    assert re.fullmatch(r".+-\d+-[0-9a-f]{8}", settings.consumer)
    assert settings.consumer != load().consumer
