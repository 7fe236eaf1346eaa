"""Thread limits of numeric libraries."""

from contextlib import AbstractContextManager


def cap_numeric_threads(threads: int = 1) -> AbstractContextManager[object]:
    """Limit OpenMP and BLAS to `threads` threads in the calling thread, from now on.

    OpenMP keeps its limit per thread: call this in the thread that predicts, such as in the initializer of its
    executor. A call in the main thread has no effect on other threads.

    Returns:
        A context manager that restores the previous limits when its block ends.
    """
    # The limit applies only to loaded libraries: this import loads OpenMP.
    import sklearn.utils.parallel  # noqa: F401
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=threads)
    return limits
