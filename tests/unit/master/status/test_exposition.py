"""The parsers of the client library read every page back unchanged, in both formats."""

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


def test_the_prometheus_text_of_three_metrics():
    """Version 0.0.4: the head of a counter has the name of its sample, and the page has no last line of its own."""
    content_type, page = render([DUE, COLD, WAIT], "*/*")

    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert page.decode() == TEXT


def test_the_openmetrics_page_of_three_metrics():
    """Version 1.0.0: the head of a counter omits `_total`, and the page ends with `# EOF`."""
    content_type, page = render([DUE, COLD, WAIT], OPENMETRICS)

    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert page.decode() == PAGE


def test_a_metric_without_samples_has_its_help_and_type():
    _, page = render([Metric("cold_celsius", "gauge", "How cold it is.", ())], "")

    assert page == b"# HELP cold_celsius How cold it is.\n# TYPE cold_celsius gauge\n"


@pytest.mark.parametrize(
    "accept",
    ["", "text/html", "text/plain;version=,", ";=,", "*/*;q=x", "application/openmetrics-text;version=1.x", "\xff\x00"],
)
def test_no_accept_header_fails_a_scrape(accept):
    """Only the name of OpenMetrics counts; versions and weights may be malformed."""
    content_type, page = render([COLD], accept)

    assert content_type.startswith("application/openmetrics-text" if "openmetrics" in accept else "text/plain")
    assert b"\ncold_celsius -2.5\n" in page


@pytest.mark.parametrize("accept", PARSERS)
@given(value=st.text(), text=st.text(), amount=st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_and_any_number_are_read_back_unchanged(accept, value, text, amount):
    """The name of a listener is free text: it may contain quotes, backslashes and line breaks."""
    metric = Metric("cold", "gauge", text, [Sample("cold", {"where": value, "when": "now"}, amount)])
    _, page = render([metric], accept)
    (family,) = PARSERS[accept](page.decode())
    (sample,) = family.samples

    assert {"where": value, "when": "now"} == sample.labels
    assert amount == sample.value


@pytest.mark.parametrize("accept", PARSERS)
@pytest.mark.parametrize("text", ['a "b"', "a\\b", "a\nb", "a\\nb", 'a\\"b'])
def test_a_help_text_is_escaped_by_the_rules_of_its_format(accept, text):
    """Quotes are escaped in OpenMetrics only; a parser returns the original text."""
    _, page = render([Metric("cold", "gauge", text, [Sample("cold", {}, 1)])], accept)
    (family,) = PARSERS[accept](page.decode())

    assert text == family.documentation
