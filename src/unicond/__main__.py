"""`python -m unicond`, and `accelerate launch --module unicond` for several processes."""

from unicond.cli import main

if __name__ == "__main__":
    main()
