"""Charged exactly once, shown by killing things: `python -m tests.crash --help`, or `make crash-test`.

Real processes of every role, Apache Kafka, ClickHouse; faults by dice and each alone; then a judgement from the topics
alone (`read_committed`) against the independent oracle, and of every table of the warehouse against the topics.
"""
