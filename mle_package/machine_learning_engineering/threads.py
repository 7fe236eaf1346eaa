"""How many threads numeric libraries take."""


def cap_numeric_threads(threads: int = 1) -> None:
    """Let OpenMP and BLAS use at most `threads` threads in the calling thread, from now on.

    OpenMP keeps its limit per thread, so this belongs into the thread that predicts (the initializer of its executor):
    called from the main thread it does nothing for another one.
    """
    # The limit reaches only libraries that are loaded already: importing this loads OpenMP.
    import sklearn.utils.parallel  # noqa: F401
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=threads)
