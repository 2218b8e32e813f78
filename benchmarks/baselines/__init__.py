"""What asyncwb is compared with: plain Redis, direct commits, job queues, the article's algorithm, bare limits."""
