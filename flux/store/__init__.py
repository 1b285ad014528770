"""Postgres as Flux uses it: embedded launcher, pools, migrations, roles, SQL files."""
