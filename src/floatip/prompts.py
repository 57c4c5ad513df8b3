"""Questions to a person at the terminal. On stderr, so that stdout can go to a file.

Ctrl-C and Ctrl-D raise EOFError.
"""

import sys


def ask(question: str, default: str = "") -> str:
    """Asks again until there is an answer."""
    answer = ""
    while not answer:
        print(f"{question} [{default}]: " if default else f"{question}: ", end="", file=sys.stderr, flush=True)
        try:
            answer = input().strip() or default
        except KeyboardInterrupt:
            raise EOFError from None
    return answer


def confirm(question: str) -> bool:
    """Enter alone is a no."""
    while (answer := ask(f"{question} (y or n)", "n").lower()) not in ("y", "yes", "n", "no"):
        print("error: answer y or n", file=sys.stderr)
    return answer.startswith("y")
