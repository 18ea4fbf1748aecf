"""``python -m candlecast``: the same as the ``candlecast`` command."""

from candlecast.cli import main

if __name__ == "__main__":
    main()
