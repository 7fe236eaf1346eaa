"""``python -m stream_app``: one worker, with the champion of every model in the registry."""

from stream_app.worker import main

if __name__ == "__main__":
    main()
