"""All fuzz targets: each border of the program adds its own list here."""

from tests.fuzz import entries, log, opensearch, receivers, settings
from tests.fuzz import entries, log, receivers, settings
from tests.fuzz import entries, receivers, redis, settings
from tests.fuzz import entries, log, receivers, redis, settings
from tests.fuzz.target import Target

TARGETS: list[Target] = [
    *entries.TARGETS,
    *opensearch.TARGETS,
    *receivers.TARGETS,
    *redis.TARGETS,
    *settings.TARGETS,
    *log.TARGETS,
]
