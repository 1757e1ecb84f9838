"""What is written is what the client library's parsers read, in both formats, whatever stands in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from asgid.master.status.exposition import Metric, Sample, histogram, render

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
PARSERS = {"text/plain": parse_text, OPENMETRICS: parse_openmetrics}

DUE = Metric("due_total", "counter", "What is due.", [Sample("due_total", {"to": "Ada", "by": "Eve"}, 3)])
COLD = Metric("cold_celsius", "gauge", "How cold it is.", [Sample("cold_celsius", {}, -2.5)])
WAIT = histogram("wait_seconds", "How long.", (0.1, 1.0), [4, 0, 2], 7.5)

TEXT = """\
# HELP due_total What is due.
# TYPE due_total counter
due_total{to="Ada",by="Eve"} 3.0
# HELP cold_celsius How cold it is.
# TYPE cold_celsius gauge
cold_celsius -2.5
# HELP wait_seconds How long.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.1"} 4.0
wait_seconds_bucket{le="1.0"} 4.0
wait_seconds_bucket{le="+Inf"} 6.0
wait_seconds_sum 7.5
wait_seconds_count 6.0
"""
PAGE = """\
# HELP due What is due.
# TYPE due counter
due_total{to="Ada",by="Eve"} 3.0
# HELP cold_celsius How cold it is.
# TYPE cold_celsius gauge
cold_celsius -2.5
# HELP wait_seconds How long.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.1"} 4.0
wait_seconds_bucket{le="1.0"} 4.0
wait_seconds_bucket{le="+Inf"} 6.0
wait_seconds_sum 7.5
wait_seconds_count 6.0
# EOF
"""


def test_prometheus_text_is_written_to_the_letter():
    """Version 0.0.4: the head of a counter names what its line names, and nothing stands at the end."""
    content_type, page = render([DUE, COLD, WAIT], "*/*")

    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert page.decode() == TEXT


def test_openmetrics_is_written_to_the_letter():
    """Version 1.0.0: the head of a counter leaves its ending off, and the page says that it is whole."""
    content_type, page = render([DUE, COLD, WAIT], OPENMETRICS)

    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert page.decode() == PAGE


def test_what_has_no_samples_is_still_explained():
    """A gauge of workers, while there is none."""
    _, page = render([Metric("cold_celsius", "gauge", "How cold it is.", ())], "")

    assert page == b"# HELP cold_celsius How cold it is.\n# TYPE cold_celsius gauge\n"


@pytest.mark.parametrize(
    "accept",
    ["", "text/html", "text/plain;version=,", ";=,", "*/*;q=x", "application/openmetrics-text;version=1.x", "\xff\x00"],
)
def test_no_accept_header_fails_a_scrape(accept):
    """Only whether OpenMetrics is named is looked at; versions and weights may be nonsense."""
    content_type, page = render([COLD], accept)

    assert content_type.startswith("application/openmetrics-text" if "openmetrics" in accept else "text/plain")
    assert b"\ncold_celsius -2.5\n" in page


@pytest.mark.parametrize("accept", PARSERS)
@given(value=st.text(), text=st.text(), amount=st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_and_any_number_survive(accept, value, text, amount):
    """A listener's name is free text: it may hold quotes, backslashes and the ends of lines."""
    metric = Metric("cold", "gauge", text, [Sample("cold", {"where": value, "when": "now"}, amount)])
    _, page = render([metric], accept)
    (family,) = PARSERS[accept](page.decode())
    (sample,) = family.samples

    assert {"where": value, "when": "now"} == sample.labels
    assert amount == sample.value


@pytest.mark.parametrize("accept", PARSERS)
@pytest.mark.parametrize("text", ['a "b"', "a\\b", "a\nb", "a\\nb", 'a\\"b'])
def test_a_help_text_is_escaped_as_its_format_says(accept, text):
    """Quotes only in OpenMetrics; what is escaped comes back whole."""
    _, page = render([Metric("cold", "gauge", text, [Sample("cold", {}, 1)])], accept)
    (family,) = PARSERS[accept](page.decode())

    assert text == family.documentation
