"""What is wrong with a declaration, and where."""


class DeclarationProblem(ValueError):
    """A field of a declaration can't be used.

    Args:
        path: Keys from the top to the field; empty for the whole declaration.
        problem: What is wrong, and the fix.
    """

    def __init__(self, path: tuple[str, ...], problem: str) -> None:
        super().__init__(f"{'.'.join(path)}: {problem}" if path else problem)
        self.path = path
        self.problem = problem
