"""What is measured: a file for each question, and how its answer is shown."""
