"""One command, many pairs, things to look at."""
