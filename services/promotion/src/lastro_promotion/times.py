"""Times of the record: in UTC, to the microsecond."""

from datetime import UTC, datetime, timedelta

INSTANT = timedelta(microseconds=1)
EARLIEST = datetime.min.replace(tzinfo=UTC)


def parse(text: str) -> datetime:
    """Return a time of ISO 8601; without a zone, it is in UTC.

    Raises:
        ValueError: the text is not a time, or is so near the first or last possible time that no
            other could be before or after it.
    """
    at = datetime.fromisoformat(text)
    if not datetime.min.year < at.year < datetime.max.year:
        raise ValueError(f"{text!r} is not the time of a record")
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
