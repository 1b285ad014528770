"""Running again what was recorded: the same code, answered from the record."""
