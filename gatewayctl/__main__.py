"""`python -m gatewayctl`."""

from gatewayctl.app import main

if __name__ == "__main__":
    main()
