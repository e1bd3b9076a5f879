"""How tests are spread over several processes (`pytest -n 2`, as in `make unit`)."""

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]


class Spreading(LoadFileScheduling):  # type: ignore[misc]
    """A file's tests stay together, and so do all that share an OpenSearch, which takes 15 s and 1.5 GiB to start."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        if file.startswith("tests/real/") and "opensearch" in nodeid:
            return "opensearch2" if "opensearch2" in nodeid else "opensearch3"
        return file
