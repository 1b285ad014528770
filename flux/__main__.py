"""`python -m flux`."""

from flux.cli import main

main()
