"""Moments in time: from what a clock showed to UTC, through the nights when clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from infsim.errors import InputError, Where, did_you_mean


def parse_moment(text: str, where: Where | None = None) -> datetime:
    """Return a time in ISO 8601 form, with its offset if it has one.

    Raises
    ------
    InputError
        If it is no time.
    """
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        hint = "write for example 2023-01-31 14:00:00, or 2023-01-31T14:00+01:00"
        raise InputError(f"{text!r} is not a time", where=where, hint=hint) from None


def time_zone(name: str) -> tzinfo:
    """Return a time zone of the IANA database, as in ``Europe/Paris``.

    Raises
    ------
    InputError
        If there is none of this name; suggests the nearest one.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        hint = None if known else "there is no database of time zones: pip install tzdata"
        raise InputError(
            f"unknown time zone {name!r}{did_you_mean(name, known)}", hint=hint, key="zone"
        ) from None


def instant(
    time: datetime,
    zone: tzinfo | None,
    after: datetime | None = None,
    where: Where | None = None,
) -> datetime:
    """Return the moment, in UTC, at which a clock showed a time.

    Parameters
    ----------
    time : datetime
        With an offset, which then holds; or without.
    zone : tzinfo or None
        Where the clock was; None for a clock that is never changed, taken to be at UTC.
    after : datetime, optional
        The moment before. In the hour that comes twice when clocks go back, a time is of the
        second round if that of the first is not after this.
    where : Where, optional
        For errors.

    Raises
    ------
    InputError
        If clocks never showed this time, because they went forward.
    """
    if time.tzinfo is not None:
        return time.astimezone(UTC)
    if zone is None:
        return time.replace(tzinfo=UTC)
    first, second = (time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first.astimezone(zone).replace(tzinfo=None) != time:
        raise InputError(
            f"{time} does not exist in {zone}: clocks went forward",
            where=where,
            hint="are the times of another zone, or UTC?",
        )
    return second if after is not None and first <= after < second else first
