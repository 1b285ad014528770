"""What keeps a guest process in: Landlock, seccomp, limits and an account of its own.

Loaded by the spawner (`__main__.py`, a process of its own) and by the server. Standard library only.
"""
