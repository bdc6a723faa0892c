"""How fast it is, measured on a real Kafka, with the answers checked: `python -m benchmarks` (docs/performance.md)."""
