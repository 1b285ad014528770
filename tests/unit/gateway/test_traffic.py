"""What metrics know of requests."""

from __future__ import annotations

from flux.gateway import traffic
from flux.gateway.traffic import OTHER, Traffic
from flux.histogram import HTTP, Histogram


def test_a_value_falls_into_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram(HTTP)
    for value in (0.0, 0.005, 0.0051, 10.0, 11.0):
        histogram.add(value)
    assert histogram.counts[:2] == [2, 1]
    assert histogram.counts[-2:] == [1, 1]
    assert sum(histogram.counts) == 5
    assert histogram.total == 0.005 + 0.0051 + 10.0 + 11.0


def test_only_server_errors_and_lost_clients_have_an_error_type() -> None:
    made = Traffic()
    for status, error in (
        (200, None),
        (404, "NotFound"),
        (422, "Invalid"),
        (499, "Gone"),
        (500, "Oops"),
        (503, None),
    ):
        made.end(made.begin("GET", "http"), None, status, error, 0.1)
    kinds = {series[3]: series[4] for series in made.durations}
    assert kinds == {200: "", 404: "", 422: "", 499: "Gone", 500: "Oops", 503: "503"}
    assert made.active == {("GET", "http"): 0}


def test_what_clients_and_functions_make_up_cannot_fill_the_memory() -> None:
    made = Traffic()
    for number in range(traffic.MOST_SERIES * 2):
        made.end(made.begin(f"M{number}", "http"), "/a", 500, f"Error{number}", 0.1)
    assert len(made.durations) == traffic.MOST_SERIES + 1
    assert len(made.active) == 1
    assert sum(made.durations[OTHER, "http", "/a", 500, OTHER].counts) == traffic.MOST_SERIES
