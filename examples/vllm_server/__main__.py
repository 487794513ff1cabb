"""`python -m vllm_server`, for short."""

from .server import main

if __name__ == "__main__":
    main()
