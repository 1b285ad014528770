"""What the standard variables ask for, and what is said of those that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux.otlp.limits import Limits
from flux.otlp.sampling import Sampler
from flux.otlp.settings import Settings, resource_attributes, settings
from tests import certificates

ENDPOINT, PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
HERE = {ENDPOINT: "http://here:1"}


def of(**environment: str) -> Settings:
    """The settings of an environment without a mistake."""
    found, problems = settings(environment)
    assert problems == []
    assert found is not None
    return found


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {**HERE, "OTEL_SDK_DISABLED": "TRUE"},
        {**HERE, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_sent_unless_it_is_asked_for(environment: dict[str, str]) -> None:
    assert settings(environment) == (None, [])


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (HERE, ("http/protobuf", "http://here:1/v1/traces", False)),
        ({ENDPOINT: "https://here/a/"}, ("http/protobuf", "https://here/a/v1/traces", False)),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("http/protobuf", "http://localhost:4318/v1/traces", False)),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", PROTOCOL: "grpc"},
            ("grpc", "localhost:4317", True),
        ),
        (
            {**HERE, TRACES_ENDPOINT: "http://there:2/as/it/is"},
            ("http/protobuf", "http://there:2/as/it/is", False),
        ),
        ({TRACES_ENDPOINT: "http://there:2"}, ("http/protobuf", "http://there:2/", False)),
        (
            {**HERE, PROTOCOL: "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
            ("grpc", "here:1", True),
        ),
        (
            {ENDPOINT: "https://here:1", PROTOCOL: "grpc"},
            ("grpc", "here:1", False),
        ),
        (
            {ENDPOINT: "here:1", PROTOCOL: "grpc"},
            ("grpc", "here:1", False),
        ),
        (
            {
                ENDPOINT: "here:1",
                PROTOCOL: "grpc",
                "OTEL_EXPORTER_OTLP_INSECURE": "true",
            },
            ("grpc", "here:1", True),
        ),
    ],
)  # fmt: skip
def test_where_spans_go(environment: dict[str, str], expected: tuple[str, str, bool]) -> None:
    found = of(**environment)
    assert (found.protocol, found.endpoint, found.insecure) == expected


def test_the_variable_for_traces_comes_before_the_one_for_all(tmp_path: Path) -> None:
    authority = str(certificates.make(tmp_path, "authority").certificate)
    both = {
        "HEADERS": ("a=1", "B=x%20y, c=%3D"),
        "TIMEOUT": ("20000", "1500"),
        "COMPRESSION": ("none", "gzip"),
        "CERTIFICATE": ("/nowhere", authority),
    }
    general = {f"OTEL_EXPORTER_OTLP_{name}": values[0] for name, values in both.items()}
    own = {f"OTEL_EXPORTER_OTLP_TRACES_{name}": values[1] for name, values in both.items()}
    found = of(**HERE, **general, **own)
    assert (dict(found.headers), found.timeout, found.gzip) == ({"b": "x y", "c": "="}, 1.5, True)
    assert found.certificate == authority
    assert "x y" not in repr(found)


def test_sampler_limits_and_batches() -> None:
    found = of(
        **HERE,
        OTEL_TRACES_SAMPLER="traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.25",
        OTEL_ATTRIBUTE_COUNT_LIMIT="7",
        OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="9",
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="8",
        OTEL_SPAN_LINK_COUNT_LIMIT="0",
        OTEL_BSP_SCHEDULE_DELAY="250",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10",
    )
    assert found.sampler == Sampler(0.25, follows=False)
    assert found.limits == Limits(8, 9, 128, 0, 7, 7)
    assert (found.delay, found.batch) == (0.25, 10)


@pytest.mark.parametrize(
    ("name", "value", "attribute", "fallback"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "protocol", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "lz4", "gzip", False),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "timeout", 10.0),
        ("OTEL_EXPORTER_OTLP_HEADERS", "key", "headers", {}),
        ("OTEL_EXPORTER_OTLP_HEADERS", "key=a%0Ab", "headers", {}),
        ("OTEL_TRACES_SAMPLER", "xray", "sampler", Sampler()),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "-1", "limits", Limits()),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "many", "limits", Limits()),
        ("OTEL_BSP_SCHEDULE_DELAY", "0", "delay", 1.0),
        ("OTEL_SDK_DISABLED", "yes", "protocol", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "1", "insecure", False),
    ],
)
def test_a_bad_value_is_named_and_the_default_used(
    name: str, value: str, attribute: str, fallback: object
) -> None:
    found, problems = settings({**HERE, name: value})
    assert found is not None
    assert getattr(found, attribute) == fallback
    assert [name in problem.message for problem in problems] == [True]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "here:1"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://here"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:word@here:port"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file"),
    ],
)
def test_what_nothing_can_be_sent_with_is_said_and_nothing_is_sent(name: str, value: str) -> None:
    found, problems = settings({**HERE, name: value})
    assert found is None
    assert name in problems[-1].message
    assert "word" not in problems[-1].message


def test_files_for_tls_that_are_none_are_said_at_once(tmp_path: Path) -> None:
    one, other = certificates.make(tmp_path, "one"), certificates.make(tmp_path, "other")
    garbage = tmp_path / "garbage"
    garbage.write_text("no certificate")
    prefix = "OTEL_EXPORTER_OTLP_"
    for given, said in (
        ({"CERTIFICATE": garbage}, f"{prefix}CERTIFICATE={garbage}: the file holds no certificate"),
        ({"CERTIFICATE": one.key}, "the file holds no certificate"),
        ({"CLIENT_CERTIFICATE": garbage, "CLIENT_KEY": one.key}, "certificate or key can't be read"),
        (
            {"CLIENT_CERTIFICATE": one.certificate, "CLIENT_KEY": other.key},
            "the key is not the certificate's",
        ),
        ({"CLIENT_CERTIFICATE": one.certificate}, "certificate or key can't be read"),
        ({"CLIENT_KEY": one.key}, f"there is no {prefix}CLIENT_CERTIFICATE with it"),
    ):
        found, problems = settings({**HERE, **{f"{prefix}{name}": str(path) for name, path in given.items()}})
        assert found is None
        assert said in problems[-1].message
    both = tmp_path / "both"
    both.write_bytes(one.certificate.read_bytes() + one.key.read_bytes())
    whole = of(**HERE, OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=str(both))
    assert (whole.client_certificate, whole.client_key) == (str(both), str(both))


@pytest.mark.parametrize(
    ("endpoint", "protocol", "hint"),
    [
        ("http://here:4317", "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
        ("http://here:4318", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
    ],
)
def test_a_port_of_the_other_protocol_is_pointed_out(endpoint: str, protocol: str, hint: str) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    found, problems = settings(environment)
    assert found is not None
    assert hint in str(problems[0].hint)


def test_seconds_given_for_milliseconds_are_pointed_out() -> None:
    found, problems = settings({**HERE, "OTEL_EXPORTER_OTLP_TIMEOUT": "10"})
    assert found is not None
    assert found.timeout == 0.01
    assert "10 milliseconds" in problems[0].message


def test_the_resource_of_the_environment() -> None:
    environment = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,team=x%2Cy", "OTEL_SERVICE_NAME": "b"}
    assert resource_attributes(environment) == ({"service.name": "b", "team": "x,y"}, [])
    found, problems = resource_attributes({"OTEL_RESOURCE_ATTRIBUTES": "a=1,b", "OTEL_SERVICE_NAME": "s"})
    assert found == {"service.name": "s"}
    assert "OTEL_RESOURCE_ATTRIBUTES" in problems[0].message
