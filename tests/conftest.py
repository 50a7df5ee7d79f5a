"""What holds for every test."""

import os

from hypothesis import settings

# A deadline would time the machine, not the code. CI repeats the same examples; elsewhere new ones are drawn.
settings.register_profile("pennytrace", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("pennytrace")
