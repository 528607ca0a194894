"""`python -m spanbox` is `spanbox`."""

from spanbox.cli import main

main()
