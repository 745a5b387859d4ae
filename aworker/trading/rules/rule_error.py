"""The one error of the rule language, which points at its column."""

_EXCERPT_CHARACTERS = 100


class RuleError(ValueError):
    """A text that is no rule.

    ``text`` is the whole rule, ``column`` the 1-based place in it, ``message`` what is wrong there in one line and
    ``suggestion`` what to write instead, or None. ``str()`` is a form for people, on several lines.
    """

    def __init__(self, text: str, column: int, message: str, suggestion: str | None = None) -> None:
        super().__init__(text, column, message, suggestion)
        self.text = text
        self.column = column
        self.message = message
        self.suggestion = suggestion

    @property
    def pointer(self) -> str:
        """The rule, or the part of it around the column, and a caret under the column, on two lines."""
        place = self.column - 1
        start = max(0, min(place - _EXCERPT_CHARACTERS // 2, len(self.text) - _EXCERPT_CHARACTERS))
        excerpt = self.text[start : start + _EXCERPT_CHARACTERS]
        shown = "".join(character if character.isprintable() else " " for character in excerpt)
        lead = "..." if start else ""
        trail = "..." if start + _EXCERPT_CHARACTERS < len(self.text) else ""
        return f"  {lead}{shown}{trail}\n  {' ' * (len(lead) + place - start)}^"

    def __str__(self) -> str:
        lines = [f"column {self.column}: {self.message}", self.pointer]
        if self.suggestion is not None:
            lines.append(f"did you mean `{self.suggestion}`?")
        return "\n".join(lines)
