"""What the pipeline asks of the world: a stream, a store, channels. Backends and fakes implement these protocols.

Two rules hold for every method. It raises `Unavailable` when the backend does not answer in its own bound or says "not
now"; whether a write happened is unknown then. And it can be cancelled at any time, with the same meaning: a
write may or may not have happened, and no other caller's write is affected. But for two methods: `replace` and `ack`,
which store what came of an attempt, hold a cancellation off until the backend has answered or its bound is over.
"""
