"""Dates as HTTP writes them."""

from email.utils import formatdate

import pytest

from asgid.date import http_date


def test_a_date_is_written_as_the_specification_has_it():
    """RFC 9110 section 5.6.7 gives one."""
    assert "Sun, 06 Nov 1994 08:49:37 GMT" == http_date(784111777.9)


@pytest.mark.parametrize("day", range(0, 36525, 13))
def test_every_day_of_a_century_is_written_as_the_library_writes_it(day):
    """Months, weekdays and leap years, at another second of each day."""
    now = day * 86400 + day * 977 % 86400

    assert formatdate(now, usegmt=True) == http_date(now)
