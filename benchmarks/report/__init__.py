"""One report of all questions, with its pictures."""
