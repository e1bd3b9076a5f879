"""What Prometheus does while a run goes on: it reads `/metrics` every second."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from bench.plan import VoidRunError

EVERY_S = 1.0
ANSWERS_WITHIN_S = 10.0


@contextmanager
def scraping(address: str) -> Iterator[None]:
    """Read the figures at an address every second until the end of the block.

    Raises:
        VoidRunError: None came, or one without figures.
    """
    pages: list[str] = []
    ended = threading.Event()

    def scrape() -> None:
        with httpx.Client(base_url=f"http://{address}", timeout=ANSWERS_WITHIN_S) as client:
            while not ended.wait(EVERY_S):
                try:
                    pages.append(client.get("/metrics").raise_for_status().text)
                except httpx.ConnectError:  # the process has only just begun
                    continue
                except httpx.HTTPError as fault:
                    pages.append(f"no page: {fault}")

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if not pages or any("trio_alerts_attempts_total" not in page for page in pages):
        raise VoidRunError(f"{len(pages)} pages of figures came, the last one: {pages[-1:]!r:.300}")
