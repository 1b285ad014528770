"""How answers look on a terminal and in a pipe. Pure: shapes in, lines of Text out."""
