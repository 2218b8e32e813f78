"""What operators use: a look at a namespace, repairs, and the doctor."""
