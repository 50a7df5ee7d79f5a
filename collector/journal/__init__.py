"""The journal: what was acknowledged and is not stored yet, in segment files that survive a crash.

group.py    how groups of rows lie in a file
segment.py  a file being written, a file to be stored
folder.py   the folder and its lock
space.py    how much disk all of it may take
journal.py  one signal's segments: append, roll, recover
drain.py    the thread that hands closed segments to the store
refused.py  keeping rows that the store will not have
"""

from collector.journal.drain import Drain
from collector.journal.folder import JournalFolder
from collector.journal.group import Group
from collector.journal.journal import Journal
from collector.journal.segment import Segment
from collector.journal.space import Space

__all__ = ["Drain", "Group", "Journal", "JournalFolder", "Segment", "Space"]
