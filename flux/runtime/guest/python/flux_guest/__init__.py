"""The Python guest: what stands between a user's function and the host. Runs in a process of its own; stdlib
only.
"""
