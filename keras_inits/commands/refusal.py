"""Why a command was not done."""


class Refusal(Exception):
    """One line for the user; nothing has been written."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(message: object, longest: int = 600) -> str:
    """The first paragraph of a message, its lines joined, and an error's notes."""
    paragraph = str(message).strip().split("\n\n")[0]
    text = " ".join(paragraph.split())
    text = text if len(text) <= longest else text[: longest - 4] + " ..."
    return " ".join([text, *getattr(message, "__notes__", ())])
