"""The spool: an append-only file on local disk that holds each record until everyone who reads it has it."""
