"""How many threads numeric libraries take."""

from contextlib import AbstractContextManager


def cap_numeric_threads(threads: int = 1) -> AbstractContextManager[object]:
    """Let OpenMP and BLAS use at most `threads` threads in the calling thread, from now on.

    What it returns puts back what was before, at the end of a `with`.

    OpenMP keeps its limit per thread, so this belongs into the thread that predicts (the initializer of its executor):
    called from the main thread it does nothing for another one.
    """
    # The limit reaches only libraries that are loaded already: importing this loads OpenMP.
    import sklearn.utils.parallel  # noqa: F401
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=threads)
    return limits
