"""Usage of one model call, and how to read it off what providers return (by shape, importing none of them)."""

from pennytrace._usage.huggingface import generated
from pennytrace._usage.reading import Answer, read, read_given
from pennytrace._usage.rows import rows
from pennytrace._usage.usage import Usage

__all__ = ["Answer", "Usage", "generated", "read", "read_given", "rows"]
