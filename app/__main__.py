"""`python -m app` is `pennytrace`."""

from app.cli import main

main()
