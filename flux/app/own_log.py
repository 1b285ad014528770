"""What a serving process itself logs, without what is withheld. Attached by Application while open.

These are lines that functions wrote outside any invocation, and errors with values in them.
"""

from __future__ import annotations

import logging

from flux.recorder.secret_forms import SecretForms


class Withholding(logging.Filter):
    """Takes secrets out of log records.

    Args:
        secrets: those to take out.
    """

    def __init__(self, secrets: SecretForms) -> None:
        super().__init__()
        self._secrets = secrets
        self._handlers: list[logging.Handler] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place; all pass."""
        said = record.getMessage()
        kept = self._secrets.remove_text(said)
        if kept is not said:
            record.msg, record.args = kept, None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._secrets.remove_text(record.exc_text)
        return True

    def attach(self) -> None:
        """Filter all that the root's handlers write from now on."""
        self._handlers = [*logging.getLogger().handlers]
        for handler in self._handlers:
            handler.addFilter(self)

    def detach(self) -> None:
        """Let it be."""
        for handler in self._handlers:
            handler.removeFilter(self)
