"""All that speaks to Redis: the one room that imports redis-py and hiredis.

The worker's side, from the ports inward:

- `stream`: the port `AlertStream`, all streams of a deployment as one. It stands on `reader` (new entries: waiting for
  them, being woken), `pending` (the pending list of one stream), `entries` (what was read, in the port's terms),
  `groups` (the group on each stream, and what it loses), `deployment` (whose the streams are) and `preflight` (what
  the server must allow and hold).
- `upkeep`: the port `StreamUpkeep`.

The commands' side: `producer` adds, `dead_letters` shows and empties, `standing` counts.

Below both: `losses` (what went away unread), `scripts` (Lua, for the pending list), `keys` (their names). Then `client`
(redis-py's commands over a connection that comes back by itself), `connect` (from an address to a connection),
`connection` (commands out, answers in), and `answers` (what an answer or an error means).
"""
