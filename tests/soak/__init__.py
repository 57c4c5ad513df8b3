"""A soak in the lab: faults drawn from a seed, one after another, judged one by one (`make soak SEED=n MINUTES=60`)."""
