"""Commands that look at sessions and runs: a list, one in brief, and its page as a file."""
