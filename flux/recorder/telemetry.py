"""The one place with the OpenTelemetry SDK: a provider that records every span, whatever the environment
says of sampling.

`OTEL_TRACES_SAMPLER`, `OTEL_SDK_DISABLED` and the limits are for exports to others; the record is whole.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.util.types import Attributes

from flux.recorder.processor import RecordProcessor
from flux.recorder.recorder import Recorder
from flux.recorder.tracer import RecordingTracer

_UNLIMITED = SpanLimits(
    max_attributes=SpanLimits.UNSET,
    max_events=SpanLimits.UNSET,
    max_links=SpanLimits.UNSET,
    max_span_attributes=SpanLimits.UNSET,
    max_event_attributes=SpanLimits.UNSET,
    max_link_attributes=SpanLimits.UNSET,
    max_attribute_length=SpanLimits.UNSET,
    max_span_attribute_length=SpanLimits.UNSET,
)


class RecordingProvider(TracerProvider):
    """A TracerProvider that OTEL_SDK_DISABLED does not turn off."""

    _disabled: bool

    def __init__(self, processor: RecordProcessor, resource: Resource) -> None:
        super().__init__(
            sampler=ALWAYS_ON,
            resource=resource,
            active_span_processor=processor,
            span_limits=_UNLIMITED,
            shutdown_on_exit=False,
        )
        self._disabled = False
        self._recording: dict[int, RecordingTracer] = {}

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """As the SDK's; the tracer makes the same spans, sooner."""
        made = super().get_tracer(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        assert isinstance(made, Tracer)
        return self._recording.setdefault(id(made), RecordingTracer(made))


def setup(
    recorder: Recorder, attributes: Mapping[str, str | int | float | bool], *, everywhere: bool = True
) -> TracerProvider:
    """Make the provider whose spans go into the record.

    Args:
        recorder: takes the spans.
        attributes: the resource's: service.name and the like.
        everywhere: make it the process's provider, which `trace.get_tracer` uses. Only the first one can be.
    """
    provider = RecordingProvider(RecordProcessor(recorder), Resource.create(dict(attributes)))
    if everywhere:
        trace.set_tracer_provider(provider)
    return provider
