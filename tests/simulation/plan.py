"""What happens in one history: pure data, chosen by a seed or built by Hypothesis."""

from random import Random
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

What = Literal[
    "emit",  # `number` alerts of the kind `target`
    "kill",  # SIGKILL of the process in a slot; it is started again after `lasts_s`
    "kill_on",  # the same, at the `number`-th next call of the method `target`: just before or after its effect
    "stop_on",  # a soft stop and a second signal, at such a call
    "reload",  # the process in a slot takes up the configuration `how`, the new one or the old one
    "impatient",  # for `lasts_s`, SIGKILL of the process in a slot whenever it has lived for `number` s
    "pause",  # SIGSTOP, and SIGCONT after `lasts_s`
    "stop",  # a soft stop, and a new process after `lasts_s`
    "stop_all",  # the same to all processes at once, as a signal to the whole group is
    "hard_stop",  # a soft stop, and a second signal after `lasts_s`
    "weather",  # calls of the backend `target` fail at a `rate`, in the way `how`, for `lasts_s`
    "freeze",  # the stream's server makes no step for `lasts_s`
    "disconnect",  # all calls of the backend `target` that are under way lose their connection
    "jump",  # the server's clock jumps by `lasts_s`, forward or back
    "mood",  # the receiver `target` behaves as `how` says, for `lasts_s`
    "redeliver",  # an operator sends again what failed or is in doubt
    "silence",  # an operator silences half of the alerts, for `lasts_s`
    "lift",  # an operator sends what silences kept back
    "lose_hints",  # every hint key is deleted on the stream's server
    "lose_gates",  # and so is what it knows of the channels' gates
    "replay",  # an operator gives the first dead letter a second chance
    "delete_record",  # an operator deletes a document
    "delete_entry",  # a producer trims, or an operator deletes, an entry
    "lose_group",  # the group is destroyed
    "set_id",  # the group is set back to an earlier ID
    "trim",  # a producer trims what the group is done with
    "restore",  # the stream's server comes back with a copy of its data that is older than all that was trimmed
    "flush",  # the stream's server comes back without its data
    "migrate",  # the store gets a new index: no writes for `lasts_s`, then every record has another version
    "neighbour",  # another deployment starts on our store, with a server or with a group (`how`) of its own
]
Change = Literal["", "added", "removed", "renamed"]
KINDS = ("good", "suppressed", "bad", "refused", "poison", "lethal", "newline")
MOODS = ("busy", "gone", "hang", "reset", "unreachable", "slow", "gateway", "overloaded", "limited", "dismissive")
# `some`: of several gathered writes, some are rejected. The last two hit only writes to the store: an index that takes
# none, and unexpected answers to them.
FAULTS = ("refused", "lost", "slow", "hang", "some", "read_only", "nonsense")
METHODS = (
    *("create", "replace", "get", "ack", "claim", "read", "renew", "hand_over", "quarantine", "own_pending", "due"),
    *("send", "bulk", "owns", "pending_among"),
    *("raise_pruned_before", "prune"),
    *("ask", "exchange", "put_due", "take_due", "put_queued", "take_queued", "end_sweep"),
)


class Event(Struct, frozen=True, omit_defaults=True):
    """Something that the world does to the program."""

    at_s: float
    what: What
    slot: int = 0
    lasts_s: float = 0.0
    target: str = ""
    how: str = ""
    rate: float = 1.0
    number: int = 1


class Plan(Struct, frozen=True, omit_defaults=True):
    """One history, before it happens.

    Args:
        chance: Seeds the scheduler, the latencies, and which calls a fault hits.
        slots: How many processes there are at once.
        workers: Of each process.
        batch: Of each process.
        fixed_names: A process that is started again has its old consumer name.
        long_sends: Receivers may take longer than `claim_idle_s`.
        channels: How many receivers each alert goes to, at most.
        hold: The channels whose policy is `hold`.
        bulk: Writes go through the real batcher and the real `_bulk` bodies.
        lagging: Searches see what was there a second ago, or earlier.
        latency_s: The longest way to a backend and back, when nothing is wrong.
        refuses_every_s: The store refuses one call about records in so many seconds, also when all other faults are
            gone; 0: none.
        upgraded_from_s: Processes that start at this time or later are of a newer version, whose records those that
            started before cannot read; 0: all are of one version.
        fallback_after_s: How long receivers have to accept an alert before it goes to one more, `FALLBACK`; 0: it never
            does.
        change: What a new configuration does to the last channel; processes that start at `changed_at_s` or later
            have it, and in the end all know the channel: what was removed is there again. Empty: there is one
            configuration.
        changed_at_s: When.
        rate_per_s: How many alerts the first receiver takes a second, by its settings; 0: any number.
        burst: And how many at once.
        keep_records_s: How long records are kept; 0: for ever.
        canaries: Canaries are written, and tended.
        events: What happens, in order of time.

    Attributes:
        receivers: The names of all receivers.
    """

    chance: int
    slots: int = 2
    workers: int = 3
    batch: int = 100
    fixed_names: bool = False
    long_sends: bool = False
    channels: int = 1
    hold: tuple[str, ...] = ()
    bulk: bool = False
    lagging: bool = False
    latency_s: float = 0.02
    refuses_every_s: float = 0.0
    upgraded_from_s: float = 0.0
    fallback_after_s: float = 0.0
    change: Change = ""
    changed_at_s: float = 0.0
    rate_per_s: float = 0.0
    burst: int = 1
    keep_records_s: float = 0.0
    canaries: bool = False
    events: tuple[Event, ...] = ()

    @property
    def receivers(self) -> tuple[str, ...]:
        return (*PRIMARIES[: self.channels], *(FALLBACK,) * (self.fallback_after_s > 0))


def plan_of(seed: int) -> Plan:
    """Choose a history by a seed."""
    chance = Random(seed)
    theme = chance.choice(tuple(THEMES))
    channels = chance.choice((1, 1, 2))
    names = PRIMARIES[:channels]
    plan = Plan(
        chance=seed,
        slots=chance.choice((1, 2, 2, 2, 3) if theme == "mixed" else (2, 2, 3)),
        workers=chance.choice((1, 2, 4, 8)),
        batch=chance.choice((1, 100, 100)),
        fixed_names=chance.random() < 0.3,
        long_sends=theme in _LONG or chance.random() < 0.2,
        channels=channels,
        hold=tuple(name for name in names if chance.random() < 0.25),
        bulk=chance.random() < 0.5,
        lagging=chance.random() < 0.4,
        latency_s=chance.choice((0.0, 0.005, 0.02, 0.2, 1.0)),
    )
    if theme == "backlog":
        plan = replace(plan, slots=2, workers=1)
    horizon_s = chance.uniform(8.0, 25.0)
    happening = [_event(chance, plan, theme, horizon_s) for _ in range(chance.randint(2, 10))]
    events = sorted((*_alerts(chance, theme, horizon_s), *happening), key=lambda event: event.at_s)
    refuses_every_s = chance.choice((0.0, 0.0, 0.0, 2.0))
    upgraded_from_s = 0.0
    if chance.random() < 0.25:
        upgraded_from_s = round(chance.uniform(0.1, 6.0), 3)
        events = sorted((*events, *_upgrade(chance, upgraded_from_s)), key=lambda event: event.at_s)
    plan = replace(plan, events=tuple(events), refuses_every_s=refuses_every_s, upgraded_from_s=upgraded_from_s)
    if chance.random() < 0.35:
        plan = _with_fallback(chance, plan)
    if chance.random() < 0.4 and theme != "backlog":
        plan = _with_gates(chance, plan)
    if chance.random() < 0.3 and len(plan.receivers) > 1:
        plan = _with_change(chance, plan)
    if chance.random() < 0.15:
        plan = _with_retention(chance, plan)
    plan = replace(plan, canaries=seed % 4 == 1)  # by no chance of its own, which would change all other histories
    plan = _with_reloads(Random(f"{seed}/reloads"), plan)
    return _with_migrations(Random(f"{seed}/migrations"), plan)


PRIMARIES, FALLBACK, RENAMED = ("webhook", "pager"), "mail", "renamed"
EPOCH_S = 1_000.0  # the server's time at the start: a clock that jumps back must not fall below 0
KEPT_S = 30.0  # how long records are kept, if not for ever
CHANNELS = (*PRIMARIES, FALLBACK)
POISON = ("poison", "lethal")
THEMES: dict[str, tuple[What, ...]] = {  # what happens, as often as it is named
    "mixed": (
        *("kill", "kill", "kill_on", "kill_on", "kill_on", "kill_on", "pause", "pause", "pause", "stop", "stop_all"),
        *("hard_stop", "weather", "weather", "weather", "weather", "weather", "freeze", "disconnect", "jump"),
        *("mood", "mood", "mood", "mood", "redeliver", "replay"),
        *("delete_record", "delete_entry", "lose_group", "lose_group", "set_id", "flush"),
    ),
    "slow": ("mood", "mood", "mood", "mood", "stop", "stop_all", "freeze", "freeze", "freeze", "kill", "lose_group"),
    "frozen": ("mood", "freeze", "freeze"),
    "pauses": ("pause", "pause", "pause", "mood", "mood", "kill", "stop", "stop_on", "redeliver"),
    "outages": ("weather", "weather", "weather", "stop_on", "stop_on", "disconnect", "kill_on", "kill_on", "mood"),
    "storms": ("weather", "weather", "impatient", "impatient", "impatient", "kill"),
    "backlog": ("kill", "kill", "kill", "kill_on"),
    "neighbours": ("neighbour", "neighbour", "mood", "mood", "kill", "kill", "kill_on", "stop", "redeliver", "flush"),
    "retries": ("mood", "mood", "mood", "kill_on", "kill", "weather", "redeliver", "pause", "lose_group"),
    "silences": (
        "silence",
        "silence",
        "lift",
        "mood",
        "mood",
        "mood",
        "kill",
        "kill_on",
        "pause",
        "weather",
        "freeze",
        "jump",
    ),
}
_LONG = ("slow", "frozen", "pauses")
_MOODS_OF = {"slow": ("slow", "slow", "slow", "hang"), "frozen": ("slow",), "pauses": ("slow", "slow", "busy", "reset")}
_CLOSING = ("busy", "unreachable", "unreachable", "hang", "limited", "limited", "dismissive")
_FAILING = ("gone", "gone", "busy", "unreachable", "hang", "reset", "gateway")
_RETRIED = ("busy", "busy", "reset", "unreachable", "gateway", "hang")


def _alerts(chance: Random, theme: str, horizon_s: float) -> list[Event]:
    events = [Event(0.0, "emit", number=chance.randint(1, 8), target="good")]
    kinds = (
        ("good", "good", "good", "good", "newline", *KINDS)
        if theme == "mixed"
        else ("good", "good", "poison", "lethal")
    )
    for _ in range(chance.randint(1, 5)):
        kind = chance.choice(kinds)
        if kind in POISON and any(event.target in POISON for event in events):
            kind = "good"  # one culprit, so that bystanders can be told from it
        number = chance.randint(1, 8) if kind == "good" else 1
        events.append(Event(_moment(chance, horizon_s), "emit", number=number, target=kind))
    if theme == "backlog":  # more than anybody can carry, while slow receivers keep every worker busy
        events += [Event(0.3, "mood", 0, 90.0, name, "slow") for name in PRIMARIES]
        events.append(Event(0.5, "emit", number=100, target="good"))
    return events


def _with_fallback(chance: Random, plan: Plan) -> Plan:
    """Let one more receiver stand by, and the others fail for a while, now and then that one too."""
    happening = [
        Event(_moment(chance, 4.0), "mood", 0, round(chance.uniform(2.0, 40.0), 3), name, chance.choice(_FAILING))
        for name in (*PRIMARIES[: plan.channels], *(FALLBACK,) * (chance.random() < 0.4))
    ]
    hold = (*plan.hold, *(FALLBACK,) * (chance.random() < 0.25))
    events = tuple(sorted((*plan.events, *happening), key=lambda event: event.at_s))
    return replace(plan, fallback_after_s=chance.choice((1.0, 4.0, 15.0, 60.0)), hold=hold, events=events)


def _with_gates(chance: Random, plan: Plan) -> Plan:
    """Let the first receiver fail for so long and for so many that its breaker opens, or let it have a rate."""
    rate_per_s = chance.choice((0.0, 0.0, 0.5, 2.0, 10.0))
    happening = [Event(_moment(chance, 20.0), "emit", number=chance.randint(2, 12), target="good") for _ in range(4)]
    for _ in range(chance.randint(0, 2)):
        mood, lasts_s = chance.choice(_CLOSING), round(chance.uniform(4.0, 45.0), 3)
        happening.append(Event(_moment(chance, 6.0), "mood", 0, lasts_s, PRIMARIES[0], mood, chance.choice((0.5, 1.0))))
    for what in chance.choices(("lose_hints", "lose_gates", "kill", "pause", "freeze"), k=chance.randint(0, 3)):
        at_s, slot = round(chance.uniform(1.0, 40.0), 3), chance.randrange(plan.slots)
        happening.append(Event(at_s, what, slot, round(chance.uniform(0.1, 8.0), 3)))
    events = tuple(sorted((*plan.events, *happening), key=lambda event: event.at_s))
    return replace(plan, rate_per_s=rate_per_s, burst=chance.randint(1, 4), events=events)


def _with_change(chance: Random, plan: Plan) -> Plan:
    """Let one process after the other get another configuration, while the channel that it is about fails.

    Those that were started last know what is new, and tell records of it; the others get these to retry.
    """
    at_s, gap_s = round(chance.uniform(0.1, 6.0), 3), chance.choice((1.0, 4.0, 10.0, 20.0))
    failing_s = at_s + chance.uniform(2.0, 14.0)
    slots, name = max(plan.slots, 2), plan.receivers[-1]
    happening = [
        Event(0.0, "mood", 0, round(failing_s, 3), name, chance.choice(_RETRIED)),
        *(Event(at_s + gap_s * slot, chance.choice(("stop", "kill")), slot, 0.5) for slot in range(slots)),
        *(Event(at_s + after_s, "emit", number=4, target="good") for after_s in (1.0, 2.0, 3.0)),
    ]
    if name == FALLBACK:  # which is of use only if the others fail
        happening += [Event(0.0, "mood", 0, round(failing_s, 3), one, "gone") for one in plan.receivers[:-1]]
    change: Change = chance.choice(("added", "removed", "renamed"))
    events = tuple(sorted((*plan.events, *happening), key=lambda event: event.at_s))
    return replace(plan, slots=slots, change=change, changed_at_s=at_s, events=events)


def _with_retention(chance: Random, plan: Plan) -> Plan:
    """Let records grow old and their entries be trimmed, while processes die over it and entries come back.

    They are kept for longer than any request may be late.
    """
    happening = [Event(round(chance.uniform(*when), 3), "trim") for when in ((8.0, 20.0), (20.0, 50.0), (50.0, 80.0))]
    happening += [Event(round(chance.uniform(0.0, 60.0), 3), "emit", number=4, target="good") for _ in range(3)]
    for what in chance.choices(
        ("kill_on", "kill_on", "restore", "restore", "lose_group", "set_id", "redeliver", "jump", "replay", "kill"),
        k=chance.randint(2, 6),
    ):
        at_s, slot, moment = round(chance.uniform(30.0, 90.0), 3), chance.randrange(plan.slots), ("before", "after")
        event = Event(at_s, what, slot, 0.5, number=chance.randrange(40))
        if what == "kill_on":
            event = Event(at_s, what, slot, 0.5, chance.choice(("prune", "raise_pruned_before")), chance.choice(moment))
        elif what == "jump":
            event = Event(at_s, what, lasts_s=chance.choice((-30.0, 30.0)))
        happening.append(event)
    happening.append(Event(100.0, "trim"))
    events = tuple(sorted((*plan.events, *happening), key=lambda event: event.at_s))
    return replace(plan, keep_records_s=KEPT_S, events=events)


def _with_migrations(chance: Random, plan: Plan) -> Plan:
    """Give the store a new index now and then, while something is under way; by a chance of its own."""
    if chance.random() > 0.15:
        return plan
    lasts_s = [round(chance.uniform(0.0, 4.0), 3) for _ in range(chance.randint(1, 3))]
    happening = [Event(_moment(chance, 15.0), "migrate", lasts_s=one) for one in lasts_s]
    return replace(plan, events=tuple(sorted((*plan.events, *happening), key=lambda event: event.at_s)))


def _with_reloads(chance: Random, plan: Plan) -> Plan:
    """Let living processes take up the new configuration, and now and then the old one again."""
    if not plan.change or chance.random() < 0.4:
        return plan
    happening = [
        Event(
            round(plan.changed_at_s + chance.uniform(0.0, 25.0), 3),
            "reload",
            chance.randrange(plan.slots),
            how=chance.choice(("new", "new", "old")),
        )
        for _ in range(chance.randint(plan.slots, 4 * plan.slots))
    ]
    return replace(plan, events=tuple(sorted((*plan.events, *happening), key=lambda event: event.at_s)))


def _upgrade(chance: Random, at_s: float) -> list[Event]:
    """Replace one process by a newer one, which dies in its turn: the others get what it was working on."""
    method, moment = chance.choice(("send", "replace", "ack")), chance.choice(("before", "after"))
    return [
        Event(at_s, "stop", 0, 0.5),
        Event(at_s + 2.0, "emit", number=6, target="good"),
        Event(at_s + 2.0, "kill_on", 0, round(chance.uniform(1.0, 20.0), 3), method, moment),
    ]


def _moment(chance: Random, horizon_s: float) -> float:
    # Half of what happens comes soon after the first alerts, while something is under way.
    return round(chance.uniform(0.0, horizon_s if chance.random() < 0.5 else 2.0), 3)


def _event(chance: Random, plan: Plan, theme: str, horizon_s: float) -> Event:
    at_s, slot = _moment(chance, horizon_s), chance.randrange(plan.slots)
    what = chance.choice(THEMES[theme])
    lasts_s = round(chance.choice((chance.uniform(0.05, 2.0), chance.uniform(0.5, 8.0), chance.uniform(6.0, 16.0))), 3)
    event = Event(at_s, what, slot, lasts_s, number=chance.randrange(40))
    match what:
        case "kill_on" | "stop_on":
            method, moment = chance.choice(METHODS), chance.choice(("before", "after"))
            event = Event(at_s, what, slot, lasts_s, method, moment, number=chance.randint(1, 4))
        case "weather":
            slot = chance.randrange(-1, plan.slots)
            backend, fault = chance.choice(("stream", "store", "store")), chance.choice(FAULTS)
            event = Event(at_s, what, slot, lasts_s, backend, fault, chance.choice((0.2, 0.5, 1.0)))
            if theme == "storms":
                event = Event(at_s, what, -1, chance.uniform(20.0, 90.0), "store", chance.choice(FAULTS[-2:]))
        case "impatient":
            event = Event(at_s, what, slot, chance.uniform(20.0, 90.0), number=chance.randint(3, 14))
        case "mood":
            name = chance.choice(PRIMARIES[: plan.channels])
            mood = chance.choice(_RETRIED if theme in ("retries", "silences") else _MOODS_OF.get(theme, MOODS))
            event = Event(at_s, what, 0, lasts_s, name, mood, chance.choice((0.3, 1.0)))
            if theme == "frozen":
                event = Event(0.0, what, 0, 16.0, name, mood)
        case "silence":
            event = Event(at_s, what, lasts_s=round(chance.uniform(0.5, 40.0), 3))
        case "neighbour":
            event = Event(at_s, what, how=chance.choice(("server", "group")))
        case "disconnect":
            event = Event(at_s, what, target=chance.choice(("stream", "store")))
        case "freeze":
            event = Event(at_s, what, lasts_s=round(chance.uniform(*((5.5, 8.5) if theme in _LONG else (1.0, 9.0))), 3))
        case "jump":
            event = Event(at_s, what, lasts_s=chance.choice((-30.0, -5.0, -1.0, 1.0, 5.0, 30.0)))
        case "hard_stop":
            event = Event(at_s, what, slot, round(chance.uniform(0.0, 3.0), 3))
    return event
