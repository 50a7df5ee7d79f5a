"""What a reader's statement may be made of. Everything here is an allow-list: what the engine learns next
year is refused until someone adds it."""

from __future__ import annotations

# Tables and views that hold what Pennytrace knows about calls and money.
TABLES = frozenset(
    [
        "spans",
        "metric_points",
        "log_records",
        "calls",
        "cost_hourly",
        "replica_hourly",
        "gpu_hourly",
        "deploys",
        "findings",
        "incidents",
        "deliveries",
        "dirty_hours",
        "hour_runs",
        "dropped_partitions",
        "schema_migrations",
    ]
)

# Categories of system.functions whose functions compute from their arguments alone.
FUNCTION_CATEGORIES = frozenset(
    {
        "Arithmetic",
        "Arrays",
        "Bit",
        "Bitmap",
        "Comparison",
        "Conditional",
        "Dates and Times",
        "Distance",
        "Encoding",
        "Financial",
        "Hash",
        "IP Address",
        "JSON",
        "Logical",
        "Map",
        "Mathematical",
        "Null",
        "Random Number",
        "Rounding",
        "String",
        "String Replacement",
        "String Search",
        "String Splitting",
        "Time Window",
        "Tuple",
        "Type Conversion",
        "URL",
        "UUID",
    }
)

# Harmless ones from the category Other, where sleep, file and joinGet are too; and names that the parser
# makes, which system.functions does not list.
FUNCTIONS = frozenset(
    [
        "bar",
        "byteSize",
        "currentDatabase",
        "finalizeAggregation",
        "formatReadableDecimalSize",
        "formatReadableQuantity",
        "formatReadableSize",
        "formatReadableTimeDelta",
        "identity",
        "ignore",
        "initializeAggregation",
        "isConstant",
        "isDecimalOverflow",
        "materialize",
        "neighbor",
        "parseReadableSize",
        "parseTimeDelta",
        "revision",
        "rowNumberInAllBlocks",
        "rowNumberInBlock",
        "runningAccumulate",
        "runningDifference",
        "throwIf",
        "toColumnTypeName",
        "toTypeName",
        "transform",
        "version",
        "_CAST",
        "exists",
        "grouping",
        "lambda",
        "untuple",
    ]
)
# In an allowed category all the same: it calls back into the embedding program.
FUNCTIONS_REFUSED = frozenset({"chdb"})

# Suffixes that turn an aggregate function into another: sumIf, uniqArray, anyLastOrNull.
COMBINATORS = [
    "If",
    "Array",
    "Map",
    "Distinct",
    "OrDefault",
    "OrNull",
    "Resample",
    "Merge",
    "MergeState",
    "State",
    "SimpleState",
    "ForEach",
    "ArgMin",
    "ArgMax",
]

# Nodes of EXPLAIN AST. Not among them: Set (SETTINGS) and ColumnsApplyTransformer, which hides a function.
NODES = frozenset(
    [
        "SelectWithUnionQuery",
        "SelectIntersectExceptQuery",
        "SelectQuery",
        "ExpressionList",
        "Subquery",
        "WithElement",
        "TablesInSelectQuery",
        "TablesInSelectQueryElement",
        "TableExpression",
        "TableIdentifier",
        "TableJoin",
        "ArrayJoin",
        "Function",
        "Identifier",
        "Literal",
        "Asterisk",
        "QualifiedAsterisk",
        "OrderByElement",
        "InterpolateElement",
        "WindowDefinition",
        "WindowListElement",
        "SampleRatio",
        "QueryParameter",
        "StorageOrderByElement",
        "ColumnsRegexpMatcher",
        "ColumnsListMatcher",
        "QualifiedColumnsRegexpMatcher",
        "QualifiedColumnsListMatcher",
        "ColumnsTransformerList",
        "ColumnsExceptTransformer",
        "ColumnsReplaceTransformer",
        "ColumnsReplaceTransformer::Replacement",
    ]
)

# Output formats that write what they are given and read no schema from elsewhere.
FORMATS = frozenset(
    [
        "Native",
        "TabSeparated",
        "TabSeparatedRaw",
        "TabSeparatedWithNames",
        "TabSeparatedWithNamesAndTypes",
        "TSV",
        "TSVRaw",
        "TSVWithNames",
        "TSVWithNamesAndTypes",
        "CSV",
        "CSVWithNames",
        "CSVWithNamesAndTypes",
        "JSON",
        "JSONStrings",
        "JSONCompact",
        "JSONCompactStrings",
        "JSONColumns",
        "JSONEachRow",
        "JSONCompactEachRow",
        "JSONCompactEachRowWithNames",
        "JSONCompactEachRowWithNamesAndTypes",
        "JSONStringsEachRow",
        "JSONLines",
        "NDJSON",
        "RowBinary",
        "RowBinaryWithNames",
        "RowBinaryWithNamesAndTypes",
        "Arrow",
        "ArrowStream",
        "Parquet",
        "Pretty",
        "PrettyCompact",
        "PrettySpace",
        "Vertical",
        "Markdown",
        "Values",
        "XML",
        "Null",
    ]
)

# What a client asks before its first question, letter for letter.
HANDSHAKES = frozenset({"SELECT name, value, readonly FROM system.settings LIMIT 10000"})
