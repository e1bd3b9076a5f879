"""Records that a newer version of the program wrote: this one leaves them alone, and says so once."""

from loguru import logger

from trio_alerts.errors import NewerRecord

MOST_LOGGED = 100  # different unknown things: a newer version has a few, and whatever has more is no version of ours


class NewerRecords:
    """How often this process left a newer version's record alone; the first for each unknown thing is logged."""

    def __init__(self) -> None:
        self.count = 0
        self._logged: set[str] = set()

    def left_alone(self, fault: NewerRecord) -> None:
        """Note that a record was left alone."""
        self.count += 1
        if fault.unknown not in self._logged and len(self._logged) < MOST_LOGGED:
            self._logged.add(fault.unknown)
            logger.warning(
                "{record_id}: {error}; it is left to newer processes, and so are others like it",
                record_id=fault.record_id,
                error=fault,
            )
