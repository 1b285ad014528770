"""The recorder: executions into a spool on disk before their answers leave, and out of it into Postgres
behind them.
"""
