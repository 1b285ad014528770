"""The program that `flux trace debug` is on a terminal. Imported when it is run: Textual takes its time."""

from flux.cli.debugger.app import step_through

__all__ = ["step_through"]
