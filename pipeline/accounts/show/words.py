"""Numbers for people: bytes, dollars, seconds and questions in few digits, the same in every form."""

from __future__ import annotations

from typing import Final

NOTHING: Final = "-"


def size(count: float) -> str:
    """Bytes: 31.1 TB, in powers of 1000, as prices and disks are told in."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if abs(count) < 999.5 or unit == "PB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{_three(count)} {unit}"
        count /= 1000
    raise AssertionError


def dollars(amount: float | None) -> str:
    """Dollars; below a cent in as many places as it takes to see something."""
    if amount is None:
        return NOTHING
    if amount == 0:
        return "$0"
    if abs(amount) >= 1000:
        return f"${amount:,.0f}"
    return f"${amount:,.2f}" if abs(amount) >= 0.1 else f"${amount:.2g}"


def duration(seconds: float | None) -> str:
    """Seconds, minutes, hours or days, whichever has two to three digits."""
    if seconds is None:
        return NOTHING
    for unit, length, until in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172800.0)):
        if seconds < until:
            return f"{_three(seconds / length)} {unit}"
    return f"{_three(seconds / 86400)} d"


def big(count: float | None) -> str:
    """A count that may be of any size: 1,240 or 36.0 M."""
    if count is None:
        return "never"
    if abs(count) < 10_000:
        return f"{count:,.0f}"
    for unit in ("k", "M", "G", "T", "P", "E"):
        count /= 1000
        if abs(count) < 999.5:
            return f"{_three(count)} {unit}"
    return f"{count:.3g} E"


def share(part: float | None) -> str:
    """A share in percent, with the digits that a small one needs."""
    if part is None:
        return NOTHING
    percent = 100 * part
    if 0 < abs(percent) < 0.01:
        return "< 0.01 %"
    return f"{percent:.0f} %" if abs(percent) >= 10 else f"{percent:.2g} %" if percent else "0 %"


def signed(part: float) -> str:
    """A difference in percent, with its sign."""
    return f"{100 * part:+.1f} %"


def spread(relative: float | None) -> str:
    """A standard error as a share."""
    return "spread unknown" if relative is None else "exact" if relative == 0 else f"± {share(relative)}"


def _three(count: float) -> str:
    """Three digits, no more."""
    if abs(count) >= 99.95:
        return f"{count:,.0f}"
    return f"{count:.1f}" if abs(count) >= 9.995 else f"{count:.2f}"
