"""Levers: less cost for the same answer, at the call site. Each writes a span that the ledger understands.

from pennytrace.levers import cache

@cache(ttl_s=600)
def ask(question: str) -> str: ...
"""

from pennytrace._errors import BudgetExceededError
from pennytrace.levers._batch import Batch, batch
from pennytrace.levers._budget import Budget, budget
from pennytrace.levers._cache import Cache, cache
from pennytrace.levers._cascade import Tier, cascade
from pennytrace.levers._codec import Codec, JsonCodec, PickleCodec
from pennytrace.levers._counters import Counters, MemoryCounters, RedisCounters
from pennytrace.levers._fingerprint import fingerprint, record_fingerprint, set_fingerprint_key
from pennytrace.levers._limits import Limits
from pennytrace.levers._price import Price
from pennytrace.levers._prompt import Tokenizer
from pennytrace.levers._store import MemoryStore, RedisStore, Store
from pennytrace.levers._variant import Variant, current_variant, record_quality, variant

__all__ = [
    "Batch",
    "Budget",
    "BudgetExceededError",
    "Cache",
    "Codec",
    "Counters",
    "JsonCodec",
    "Limits",
    "MemoryCounters",
    "MemoryStore",
    "PickleCodec",
    "Price",
    "RedisCounters",
    "RedisStore",
    "Store",
    "Tier",
    "Tokenizer",
    "Variant",
    "batch",
    "budget",
    "cache",
    "cascade",
    "current_variant",
    "fingerprint",
    "record_fingerprint",
    "record_quality",
    "set_fingerprint_key",
    "variant",
]
