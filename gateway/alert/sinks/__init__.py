"""Where messages go: one file for each way out, and one line here."""

from gateway.alert.sinks import alertmanager, service
from gateway.alert.sinks.sending import Send
from gateway.config.resolved_alerts import Sink


def way_of(sink: Sink) -> Send:
    """How this sink is told something."""
    return alertmanager.send if sink.alertmanager else service.send
