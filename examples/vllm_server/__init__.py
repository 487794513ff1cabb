"""The logging guide's name for the server: `python -m vllm_server.server` starts `bucksaw serve`."""
