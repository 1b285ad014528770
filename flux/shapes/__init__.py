"""The JSON shapes as typed, frozen structs, whose fields are the keys of what the CLI prints and the HTTP API
returns: the record as it is told (`record`), why an execution failed (`why`), how two differ (`diff`), one
step of it (`debug`).

Pure data. `flux.query` fills them, `flux.compare` compares them, everything that shows a record reads them.
"""
