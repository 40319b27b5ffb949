"""`python -m modelpm` is the program `modelpm`."""

from modelpm.cli.main import main

if __name__ == "__main__":
    main()
