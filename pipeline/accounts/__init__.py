"""What a corpus holds, took and costs: statistics, the plan, the report, and how both are shown."""
