"""This module makes the names of files and models fit for a line of text."""


def printable(text: str) -> str:
    """Escape what is no sign of its own: line breaks, words for the terminal, and marks that turn text around."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
