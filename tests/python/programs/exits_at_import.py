"""A script that was not made to be imported."""

import sys

sys.exit("usage: this is a script")
