"""A module beside a program."""
