"""All fuzz targets: each border of the program adds its own list here."""

from tests.fuzz import entries, log, opensearch, receivers, redis, settings
from tests.fuzz.target import Target

TARGETS: list[Target] = [
    *entries.TARGETS,
    *opensearch.TARGETS,
    *receivers.TARGETS,
    *redis.TARGETS,
    *settings.TARGETS,
    *log.TARGETS,
]
