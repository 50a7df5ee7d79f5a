"""What the SDK raises, all of it from `configure` and from decorating, never from an observed call.

PennytraceError
└── ConfigurationError (also a ValueError)
"""


class PennytraceError(Exception):
    """Anything that Pennytrace's SDK raises on purpose."""


class ConfigurationError(PennytraceError, ValueError):
    """A setting is out of its bounds; the message says what was expected, what came and what to do."""
