"""The recorder: what an execution does, cleared of secrets and appended to the spool before it is answered."""
