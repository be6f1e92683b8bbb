"""Who is asked: one file each, with ``choose(eligible, count, rng, facts) -> list of node ids``."""
