"""Names that strangers gave to files and classes, made safe for a terminal."""


def plain_lines(text: str) -> str:
    """What we say, with the names in it made safe; our own line breaks stay."""
    return "\n".join(map(plain, text.split("\n")))


def plain(name: str) -> str:
    """The name with everything that is not printed as itself, control and direction characters too, spelled out.

    >>> plain("caf\\u00e9 \\x1b[31m.png")
    'café \\\\x1b[31m.png'
    """
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name)
