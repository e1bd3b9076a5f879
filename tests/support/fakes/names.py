"""A name server in memory."""

from collections.abc import Sequence

import trio


class NameServer:
    """Gives the next of the prepared answers each time it is asked, and the last one for ever.

    Args:
        answers: Addresses, or what is raised.
        takes_s: How long it takes to answer; it may be changed at any time.
    """

    def __init__(self, *answers: Sequence[str] | Exception, takes_s: float = 0.0) -> None:
        self.answers = list(answers)
        self.takes_s = takes_s
        self.asked = 0

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked += 1
        await trio.sleep(self.takes_s)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer
