"""The composition root: command line, settings, one-process server, scheduled job, replay, demo."""
