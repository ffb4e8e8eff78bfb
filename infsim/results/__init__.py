"""What happened: records, metrics, statistics, tables, export."""
