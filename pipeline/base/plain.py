"""Text from outside as a person may see it. Pure."""

from __future__ import annotations

import re

# Controls (C0, DEL, C1) move the cursor and set titles; U+2028 to U+202E and U+2066 to U+2069 break a line or turn its
# direction; a surrogate on its own cannot be written.
_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """The same text, with what a terminal would obey written as `\\x1b` or `\\n`. Again changes nothing."""
    return _COMMANDS.sub(lambda found: found.group().encode("unicode_escape").decode(), text)
