"""The journal by itself: what is in a file after a cut, a flip, a crash or a full disk."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.errors import JournalBusyError, JournalFullError, JournalUnusableError, JournalWriteError
from collector.journal import Drain, Group, Journal, JournalFolder, Space
from collector.journal.group import MAGIC, encode, scan
from collector.journal.journal import Roll

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.journal.segment import Segment

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
SALT = b"00000001-20260701T123000Z-ab.journal"
KIB, MIB = 1 << 10, 1 << 20

groups = st.lists(
    st.builds(
        Group,
        # Payloads that look like groups, and like groups of another file.
        st.binary(max_size=40).map(lambda tail: MAGIC + encode(Group(tail, 1, 1), b"other") + tail) | st.binary(),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
    ),
    max_size=6,
)


def space(folder: Path, bytes_max: int = MIB, free_bytes_min: int = 0) -> Space:
    return Space(folder, bytes_max, free_bytes_min, time.monotonic)


def damaged(folder: Path) -> Path:
    """Where a journal in `folder` is told to put what is not whole."""
    place = folder.parent / f"damaged-{folder.name}"
    place.mkdir(exist_ok=True)
    return place


def make_journal(
    folder: Path,
    bounds: Space | None = None,
    bytes_max: int = MIB,
    age_s: float = 60,
    sync: Callable[[int], None] = os.fdatasync,
) -> Journal:
    folder.mkdir(exist_ok=True)
    ids = (os.urandom(8).hex() for _ in iter(int, 1))
    clock, roll = lambda: NOW, Roll(bytes_max, age_s)
    return Journal(folder, damaged(folder), roll, bounds or space(folder), clock, lambda: next(ids), sync=sync)


def payloads(segment: Segment) -> list[bytes]:
    return [bytes(group.payload) for group in segment.read().groups]


def drained(journal: Journal) -> list[bytes]:
    found = []
    while segment := journal.oldest(journal.newest_number):
        found += payloads(segment)
        journal.remove(segment)
    return found


@given(groups=groups)
def test_groups_are_read_as_they_were_written(groups):
    data = b"".join(encode(group, SALT) for group in groups)
    found = scan(data, SALT)
    assert (list(found.groups), found.whole_bytes, found.damaged) == (groups, len(data), False)


@given(groups=groups, data=st.data())
def test_a_segment_cut_anywhere_gives_the_groups_before_the_cut(groups, data):
    parts = [encode(group, SALT) for group in groups]
    whole = b"".join(parts)
    cut = data.draw(st.integers(0, len(whole)))
    kept = next(n for n in range(len(parts), -1, -1) if sum(map(len, parts[:n])) <= cut)
    found = scan(whole[:cut], SALT)
    assert (list(found.groups), found.damaged) == (groups[:kept], False)
    assert found.whole_bytes == sum(map(len, parts[:kept]))


@given(groups=groups.filter(bool), data=st.data())
def test_a_byte_changed_anywhere_costs_only_the_group_it_is_in(groups, data):
    parts = [encode(group, SALT) for group in groups]
    hurt = data.draw(st.integers(0, len(parts) - 1))
    at = data.draw(st.integers(0, len(parts[hurt]) - 1))
    changed = bytearray(parts[hurt])
    changed[at] ^= data.draw(st.integers(1, 255))
    found = scan(b"".join([*parts[:hurt], changed, *parts[hurt + 1 :]]), SALT)
    assert list(found.groups) == groups[:hurt] + groups[hurt + 1 :]
    assert found.damaged == (hurt < len(groups) - 1)


@given(garbage=st.binary(max_size=300))
@example(MAGIC * 50)
def test_garbage_has_no_groups_and_raises_nothing(garbage):
    assert scan(garbage, SALT).groups == ()


def test_a_group_in_a_payload_is_not_taken_for_one_even_behind_damage():
    forged = encode(Group(b"forged", 1, 1), b"another file's name")
    data = bytearray(encode(Group(forged, 1, 1), SALT))
    data[0] ^= 1
    assert scan(bytes(data), SALT).groups == ()


def test_what_was_appended_comes_out_in_order_across_segments_and_restarts(tmp_path):
    sent = [bytes([n]) * 300 for n in range(20)]
    journal = make_journal(tmp_path / "j", bytes_max=KIB)
    for payload in sent[:10]:
        journal.append(Group(payload, 1, 1))
    journal.close()
    journal = make_journal(tmp_path / "j", bytes_max=KIB)
    for payload in sent[10:]:
        journal.append(Group(payload, 1, 1))
    assert len(journal.waiting()) > 4
    assert drained(journal) == sent
    assert list((tmp_path / "j").iterdir()) == []


def test_a_segment_is_taken_when_it_is_old_or_full_or_asked_for_and_not_before(tmp_path):
    journal = make_journal(tmp_path / "j", bytes_max=KIB, age_s=0.2)
    assert (journal.oldest(), journal.due_in_s()) == (None, None)
    journal.append(Group(b"x" * 900, 1, 1))
    assert journal.oldest() is None
    assert 0 < journal.due_in_s() <= 0.2
    journal.append(Group(b"y" * 900, 1, 1))
    first = journal.oldest()
    assert payloads(first) == [b"x" * 900]
    journal.remove(first)
    assert payloads(journal.oldest(up_to=journal.newest_number)) == [b"y" * 900]
    journal.remove(journal.oldest())
    journal.append(Group(b"z", 1, 1))
    time.sleep(0.25)
    assert payloads(journal.oldest()) == [b"z"]


def test_a_torn_tail_is_cut_off_at_the_start_and_whole_groups_stay(tmp_path):
    journal = make_journal(tmp_path / "j")
    journal.append(Group(b"one", 3, 1))
    journal.append(Group(b"two", 4, 2))
    [path] = (tmp_path / "j").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-1])
    [segment] = make_journal(tmp_path / "j").waiting()
    assert payloads(segment) == [b"one", b"two", b"one"]
    assert (segment.items, segment.bodies, segment.recovered, segment.damaged) == (10, 4, True, False)
    assert path.stat().st_size == segment.bytes < 2 * len(whole) - 1


def test_a_segment_of_nothing_but_a_torn_tail_is_removed(tmp_path):
    make_journal(tmp_path / "j").append(Group(b"one", 1, 1))
    [path] = (tmp_path / "j").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert make_journal(tmp_path / "j").waiting() == []
    assert not path.exists()


def test_damage_in_an_older_segment_is_said_and_keeps_its_whole_groups(tmp_path):
    journal = make_journal(tmp_path / "j", bytes_max=KIB)
    for payload in (b"a" * 400, b"b" * 400, b"c" * 400):
        journal.append(Group(payload, 1, 1))
    older = min((tmp_path / "j").iterdir())
    data = bytearray(older.read_bytes())
    data[100] ^= 1
    older.write_bytes(data)
    first, second = make_journal(tmp_path / "j").waiting()
    assert (first.damaged, payloads(first)) == (True, [b"b" * 400])
    assert (second.damaged, payloads(second)) == (False, [b"c" * 400])


def test_damage_since_a_segment_was_closed_is_seen_when_it_is_read(tmp_path):
    journal = make_journal(tmp_path / "j")
    for payload in (b"a" * 400, b"b" * 400):
        journal.append(Group(payload, 5, 1))
    segment = journal.oldest(journal.newest_number)
    whole = segment.path.read_bytes()
    assert not segment.read().damaged
    hurt = bytearray(whole)
    hurt[100] ^= 1
    # In the middle, in the last group, and half of the file gone.
    for data, left in ((hurt, b"b"), (hurt[::1][: len(whole) // 2], None), (whole[:-1], b"a")):
        segment.path.write_bytes(data)
        found = segment.read()
        assert found.damaged
        assert [bytes(group.payload) for group in found.groups] == ([left * 400] if left else [])


def test_a_torn_tail_is_kept_beside_the_journal_byte_for_byte(tmp_path):
    make_journal(tmp_path / "j").append(Group(b"one", 1, 1))
    [path] = (tmp_path / "j").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-1])
    make_journal(tmp_path / "j")
    [kept] = damaged(tmp_path / "j").iterdir()
    assert (kept.name, kept.read_bytes()) == (f"{path.stem}-from-{len(whole)}.tail", whole[:-1])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("at", [0, 10, 22, -1], ids=["magic", "size", "header's checksum", "payload"])
def test_damage_in_the_last_group_of_the_newest_segment_is_not_taken_for_a_torn_tail(tmp_path, caplog, at):
    journal = make_journal(tmp_path / "j")
    journal.append(Group(b"a" * 100, 7, 1))
    [path] = (tmp_path / "j").iterdir()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    journal = make_journal(tmp_path / "j")
    [segment] = journal.waiting()
    assert (segment.damaged, segment.items, segment.bytes) == (True, 0, len(data))
    assert "acknowledged or not, nobody knows" in caplog.text
    assert path.read_bytes() == data
    assert journal.set_aside(segment).read_bytes() == data


def test_segments_come_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "j").mkdir()
    for number in (99_999_999, 100_000_000, 3):
        name = f"{number:08}-20260701T123000Z-ab.journal"
        (tmp_path / "j" / name).write_bytes(encode(Group(str(number).encode(), 1, 1), name.encode()))
    journal = make_journal(tmp_path / "j")
    assert drained(journal) == [b"3", b"99999999", b"100000000"]
    journal.append(Group(b"next", 1, 1))
    assert journal.newest_number == 100_000_001


@pytest.mark.parametrize("name", ["00000001-20269999T999999Z-ab.journal", "notes.journal"])
def test_a_file_of_a_bad_name_is_left_alone_with_a_warning(tmp_path, caplog, name):
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / name).write_text("mine")
    assert make_journal(tmp_path / "j").waiting() == []
    assert (tmp_path / "j" / name).read_text() == "mine"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_segment_on_a_bad_sector_does_not_keep_the_others_from_the_start(tmp_path):
    make_journal(tmp_path / "j").append(Group(b"one", 1, 1))
    unreadable = tmp_path / "j" / "00000000-20260701T123000Z-ab.journal"
    unreadable.symlink_to("/proc/self/mem")  # address 0 of it is an input/output error
    assert drained(make_journal(tmp_path / "j")) == [b"one"]
    assert [path.name for path in damaged(tmp_path / "j").iterdir()] == [unreadable.name]


class Disk:
    """Syncs, but for so many times."""

    def __init__(self) -> None:
        self.failures = 0

    def sync(self, file: int) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(file)


def test_what_could_not_be_synced_is_gone_before_anything_else_is_appended(tmp_path):
    disk, folder = Disk(), tmp_path / "j"
    journal = make_journal(folder, sync=disk.sync)
    journal.append(Group(b"a", 1, 1))
    disk.failures = 1
    with pytest.raises(JournalWriteError, match=r"could not be written \(Input/output error\): try again"):
        journal.append(Group(b"b", 1, 1))
    assert after_a_crash(folder) == [b"a"]
    journal.append(Group(b"c", 1, 1))
    assert drained(journal) == [b"a", b"c"]


def test_while_what_was_refused_cannot_be_cut_off_nothing_is_appended_or_taken(tmp_path, caplog):
    disk, folder = Disk(), tmp_path / "j"
    journal = make_journal(folder, sync=disk.sync)
    journal.append(Group(b"a", 1, 1))
    disk.failures = 5  # the write, the cut after it, and twice the same of the next two
    for payload in (b"b", b"c"):
        with pytest.raises(JournalWriteError):
            journal.append(Group(payload, 1, 1))
    assert "cannot be cut off" in caplog.text
    with pytest.raises(OSError, match="Input/output error"):
        journal.oldest(journal.newest_number)
    journal.append(Group(b"d", 1, 1))
    assert after_a_crash(folder) == [b"a", b"d"]
    assert drained(journal) == [b"a", b"d"]


def after_a_crash(folder: Path) -> list[bytes]:
    """What the next process would find."""
    copy = folder.parent / f"{folder.name}-{len(list(folder.parent.iterdir()))}"
    shutil.copytree(folder, copy)
    return drained(make_journal(copy))


def test_an_empty_journal_takes_a_group_of_any_size(tmp_path):
    journal = make_journal(tmp_path / "j", space(tmp_path, bytes_max=KIB))
    journal.append(Group(b"x" * 5000, 1, 1))
    with pytest.raises(JournalFullError):
        journal.append(Group(b"y", 1, 1))
    assert drained(journal) == [b"x" * 5000]


def test_a_file_system_without_locks_is_said_and_leaves_nothing_open(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(JournalUnusableError, match="no locks available"):
        JournalFolder(tmp_path / "j")
    monkeypatch.undo()
    opened = [path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert (tmp_path / "j" / "journal.lock").resolve() not in opened
    JournalFolder(tmp_path / "j").release()


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / "notes.txt").write_text("mine")
    journal = make_journal(tmp_path / "j")
    assert journal.waiting() == []
    assert (tmp_path / "j" / "notes.txt").read_text() == "mine"


def test_past_its_bytes_the_journal_is_full_until_something_is_stored(tmp_path):
    journal = make_journal(tmp_path / "j", space(tmp_path, bytes_max=2 * KIB))
    journal.append(Group(b"x" * 1500, 1, 1))
    with pytest.raises(JournalFullError, match="at most 2048 bytes"):
        journal.append(Group(b"y" * 1500, 1, 1))
    assert drained(journal) == [b"x" * 1500]
    journal.append(Group(b"y" * 1500, 1, 1))
    assert drained(journal) == [b"y" * 1500]


def test_a_disk_without_the_free_bytes_that_are_to_stay_is_full(tmp_path):
    journal = make_journal(tmp_path / "j", space(tmp_path, free_bytes_min=1 << 60))
    with pytest.raises(JournalFullError, match="make room"):
        journal.append(Group(b"x", 1, 1))


DISK_FULL = """
import resource, sys, time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from collector.errors import JournalWriteError
from collector.journal import Group, Journal, Space
from collector.journal.journal import Roll

folder = Path(sys.argv[1])
ids = iter("abcdefgh")
journal = Journal(folder, folder.parent, Roll(1 << 20, 60), Space(folder, 1 << 30, 0, time.monotonic),
                  lambda: datetime.now(UTC), lambda: next(ids))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
journal.append(Group(b"a" * 3000, 1, 1))
try:
    journal.append(Group(b"b" * 3000, 1, 1))
except JournalWriteError as error:
    print(error)
journal.append(Group(b"c" * 3000, 1, 1))
try:
    journal.append(Group(b"d" * 9000, 1, 1))
except JournalWriteError as error:
    print(error)
"""


def test_a_write_that_the_disk_does_not_take_leaves_no_trace_and_the_next_one_goes_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("could not be written (File too large): try again") == 2
    journal = make_journal(tmp_path)
    assert not any(segment.damaged for segment in journal.waiting())
    assert drained(journal) == [b"a" * 3000, b"c" * 3000]


def test_a_folder_that_vanishes_is_an_error_that_passes(tmp_path):
    journal = make_journal(tmp_path / "j", space(tmp_path))
    (tmp_path / "j").rmdir()
    with pytest.raises(JournalWriteError, match="try again"):
        journal.append(Group(b"x", 1, 1))
    (tmp_path / "j").mkdir()
    journal.append(Group(b"y", 1, 1))
    assert drained(journal) == [b"y"]


def test_a_second_process_is_refused_and_let_in_when_the_first_has_ended(tmp_path):
    take = "import sys; from pathlib import Path; from collector.journal import JournalFolder; "
    take += "JournalFolder(Path(sys.argv[1])); print('in')"
    folder = JournalFolder(tmp_path / "j")
    refused = subprocess.run(
        [sys.executable, "-c", take, tmp_path / "j"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "JournalBusyError" in refused.stderr
    with pytest.raises(JournalBusyError, match="in use by another process"):
        JournalFolder(tmp_path / "j")
    folder.release()
    subprocess.run([sys.executable, "-c", take, tmp_path / "j"], cwd=ROOT, check=True)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnusableError, match=r"cannot use .* for the journal \(file exists\)"):
        JournalFolder(tmp_path / "file" / "j")


class Sink:
    """Stores what it is given, unless it is away."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.stored: list[bytes] = []
        self.attempts = 0
        self.away = False
        self.answering = threading.Event()
        self.answering.set()

    def store(self, segment: Segment) -> None:
        self.attempts += 1
        self.answering.wait()
        if self.away:
            raise ConnectionError("nobody there")
        self.stored += payloads(segment)
        self.journal.remove(segment)


def start_drain(folder: Path, age_s: float, bytes_max: int = MIB) -> tuple[Journal, Sink, Drain]:
    folder.mkdir(exist_ok=True)
    wake = threading.Event()
    ids = (os.urandom(8).hex() for _ in iter(int, 1))
    clock = lambda: NOW  # noqa: E731
    journal = Journal(
        folder, damaged(folder), Roll(bytes_max, age_s), space(folder), clock, lambda: next(ids), wake.set
    )
    sink = Sink(journal)
    return journal, sink, Drain(journal, sink.store, wake)


def test_what_was_appended_is_stored_a_moment_later_without_anybody_asking(tmp_path):
    journal, sink, drain = start_drain(tmp_path / "j", age_s=0.05)
    for n in range(5):
        journal.append(Group(bytes([n]), 1, 1))
        time.sleep(0.02)
    deadline = time.monotonic() + 10
    while len(sink.stored) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    drain.end(1)
    assert sink.stored == [bytes([n]) for n in range(5)]
    assert sink.attempts < 5


def test_a_flush_stores_everything_appended_before_it(tmp_path):
    journal, sink, drain = start_drain(tmp_path / "j", age_s=600)
    assert drain.flush(1), "an empty journal is flushed at once"
    for n in range(3):
        journal.append(Group(bytes([n]), 1, 1))
    assert drain.flush(10)
    assert sink.stored == [b"\0", b"\1", b"\2"]
    drain.end(1)


def test_while_the_store_is_away_segments_fill_and_keep_their_order(tmp_path):
    journal, sink, drain = start_drain(tmp_path / "j", age_s=0, bytes_max=KIB)
    sink.away = True
    sent = [bytes([n]) * 300 for n in range(12)]
    for payload in sent:
        journal.append(Group(payload, 1, 1))
        time.sleep(0.01)
    began = time.monotonic()
    assert not drain.flush(30)
    assert time.monotonic() - began < 5, "a flush does not wait for a store that is away"
    assert "nobody there" in drain.last_error
    assert 4 <= len(journal.waiting()) <= 6
    sink.away = False
    assert drain.flush(30)
    assert (sink.stored, drain.last_error) == (sent, None)
    drain.end(1)


def test_closing_while_the_store_is_away_leaves_everything_for_the_next_start(tmp_path):
    journal, sink, drain = start_drain(tmp_path / "j", age_s=600)
    sink.away = True
    journal.append(Group(b"x", 1, 1))
    assert not drain.flush(10)
    assert drain.end(10)
    journal.close()
    journal, sink, drain = start_drain(tmp_path / "j", age_s=600)
    assert drain.flush(10)
    assert sink.stored == [b"x"]
    drain.end(1)


def until(holds: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
    return holds()


def test_a_flush_that_comes_during_an_attempt_that_fails_is_not_made_to_wait(tmp_path):
    journal, sink, drain = start_drain(tmp_path / "j", age_s=0)
    sink.away = True
    journal.append(Group(b"x", 1, 1))
    for attempts in (1, 2, 3):  # until the wait after a failure would be seconds
        assert until(lambda attempts=attempts: sink.attempts >= attempts)
    sink.answering.clear()
    attempts = sink.attempts
    assert until(lambda: sink.attempts > attempts)
    drain.ask()
    sink.away = False
    journal.append(Group(b"y", 1, 1))
    sink.away = True
    began, attempts = time.monotonic(), sink.attempts
    sink.answering.set()
    assert until(lambda: sink.attempts > attempts)
    assert time.monotonic() - began < 1, "the wait after so many failures is four seconds"
    drain.end(1)


def test_a_drain_whose_store_does_not_answer_can_be_left(tmp_path):
    journal, sink, drain = start_drain(tmp_path / "j", age_s=0)
    sink.answering.clear()
    journal.append(Group(b"x", 1, 1))
    assert until(lambda: sink.attempts == 1)
    began = time.monotonic()
    assert not drain.flush(0.2)
    assert not drain.end(0.2)
    assert time.monotonic() - began < 2
    sink.answering.set()
    assert drain.end(10)
    assert sink.stored == [b"x"]


def test_a_drain_goes_on_when_the_disk_does(tmp_path):
    folder, disk, wake = tmp_path / "j", Disk(), threading.Event()
    folder.mkdir()
    ids = (os.urandom(8).hex() for _ in iter(int, 1))
    clock, roll = lambda: NOW, Roll(MIB, 0.05)
    journal = Journal(folder, damaged(folder), roll, space(folder), clock, lambda: next(ids), wake.set, disk.sync)
    sink = Sink(journal)
    journal.append(Group(b"x", 1, 1))
    disk.failures = 3
    with pytest.raises(JournalWriteError):
        journal.append(Group(b"y", 1, 1))
    drain = Drain(journal, sink.store, wake)
    assert until(lambda: drain.last_error is not None)
    assert until(lambda: sink.stored == [b"x"])
    assert until(lambda: drain.last_error is None)
    drain.end(1)
