"""Reports: tables with intervals, the best and worst pictures, in HTML, Markdown, parquet, CSV and JSON."""
