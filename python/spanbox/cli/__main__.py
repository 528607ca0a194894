"""`python -m spanbox.cli` is `spanbox`."""

from spanbox.cli import main

main()
