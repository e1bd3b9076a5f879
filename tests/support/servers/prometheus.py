"""The distribution's Prometheus, which scrapes a program under test, and its rules."""

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

import yaml

from tests.support.servers.process import Server, UnavailableError, free_port


class PrometheusServer(Server):
    """Prometheus on a free port of 127.0.0.1.

    Args:
        configuration: As its file has it.
        rules: Files of rules, by their names in that configuration.
    """

    name = "Prometheus"

    def __init__(self, configuration: Mapping[str, Any], rules: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.binary = program("prometheus")
        self.port = 0
        self._files = {"prometheus.yml": configuration, **rules}

    def configure(self) -> None:
        """Choose a port, and write all files."""
        self.port = free_port()
        for name, content in self._files.items():
            (self.folder / name).write_text(yaml.safe_dump(content))

    def command(self) -> list[str]:
        """Return the command line."""
        return [
            self.binary,
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def is_ready(self) -> bool:
        """Whether it takes queries."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression is now: a metric and a value each."""
        found: list[dict[str, Any]] = self._ask("query", query=expression)["result"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing."""
        found: list[dict[str, Any]] = self._ask("alerts")["alerts"]
        return found

    def _ask(self, what: str, **arguments: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]


def program(name: str) -> str:
    """Return a program of the distribution's Prometheus, such as `promtool`.

    Raises:
        UnavailableError: It is not there.
    """
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(f"{name} is not installed: apt-get install prometheus")
    return found
