"""The one error that the command line shows to its user."""


class CommandError(Exception):
    """A command cannot go on; the text says what was expected, what came and what to do."""
