"""Expressions over one execution: `status != 200 and span.charge.duration > 5000`.

`--fail-if`, `--filter`, `--good` and `--bad` take them. Nothing is ever evaluated as code: a text becomes a
tree of the few forms below, and the tree is walked.

    or, and, not, ( )                  in rising order of binding
    = == != < <= > >=                  two values; a missing one is null, and null is never less or more
    contains                           a text in a text, an element in a list, a member in an object
    in (a, b, ..)                      one of several
    "text" 'text'  12  -1.5  true false null
    200ms 5s 2m 1h                     durations, in milliseconds

What can be named:

    function trigger method path route status outcome deployment request_id duration (ms)
    error.type error.message error.file error.line
    input.a.b[0]  output.a  params.id  query.page  headers.user-agent  body.a
    span.NAME.duration|count|status|attributes.x     the longest, how many, ERROR where one of them is
    call.OP.count|duration|error                     calls of `db.query`, `fetch`..
    rows.TABLE                                       how many rows of it were changed
    log.LEVEL  warnings                              how many

A name that is no plain word stands in quotes: `span."POST /orders".duration`, `input."a b"`. A path alone is
true where its value is there and neither null, false, 0 nor empty.
"""

from flux.expression.parser import Expression, parse

__all__ = ["Expression", "parse"]
