"""Write storage/queries/model_spans.sql anew: python -m analytics.ledger."""

from analytics.ledger.normaliser import model_spans_query, query_path

query_path().write_text(model_spans_query())
