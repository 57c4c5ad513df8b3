class Cannot(Exception):
    """What this machine cannot do for the second chance, and what to do about it."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
