"""The drain: out of spools into Postgres, exactly once."""
