"""Log lines carry their fields."""

import logging

from app.logs import FieldsFormatter


def test_a_line_has_its_sentence_and_then_its_fields():
    record = logging.makeLogRecord(
        {
            "levelname": "ERROR",
            "name": "app.job",
            "msg": "messages could not be delivered",
            "owed": 2,
            "reason": "no = way",
        }
    )
    line = FieldsFormatter().format(record)
    assert line.endswith('ERROR app.job: messages could not be delivered owed=2 reason="no = way"')
