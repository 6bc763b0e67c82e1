"""`python -m gateway.simulate vllm --port 8000`."""

import sys

from gateway.simulate.app import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
