"""Valid UTF-8 for text that leaves this process.

Python's strings may hold lone surrogates: half an emoji of an answer that was cut short, a file
name that is not UTF-8. Rust's strings cannot, and its JSON reader ends a worker that sends one. So
`to_utf8` encodes all text that leaves this process. In an embedded host text.rs does the same.
"""

from __future__ import annotations


def to_utf8(text: str) -> bytes:
    """The text as UTF-8, with U+FFFD in place of each lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        # By way of UTF-16, in which two halves that stand together are one character.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
