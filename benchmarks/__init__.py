"""What the chain costs, as ratios to hand-written code in the same process: ``python -m benchmarks``."""
