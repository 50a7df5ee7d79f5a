"""What people and models say to each other: known by its keys, and taken out before anything is kept."""

from collector.content.filter import NO_EDIT, ContentFilter, Edit

__all__ = ["NO_EDIT", "ContentFilter", "Edit"]
