"""Dates in the format of HTTP."""

from email.utils import formatdate

from asgid.date import http_date


def test_the_example_of_the_specification():
    assert "Sun, 06 Nov 1994 08:49:37 GMT" == http_date(784111777.9)


def test_every_day_of_a_century_equals_that_of_the_standard_library():
    """Months, weekdays and leap years, with a different time on each day."""
    times = [day * 86400 + day * 977 % 86400 for day in range(36525)]

    assert [formatdate(now, usegmt=True) for now in times] == [http_date(now) for now in times]
