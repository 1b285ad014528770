"""The recorder: executions, cleared of secrets, appended to the spool before they are answered."""
