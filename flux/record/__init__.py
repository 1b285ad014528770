"""What is recorded: identities, events and exact payloads. Pure data, no I/O; every module speaks in
these.
"""
