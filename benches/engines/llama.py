"""llama.cpp for benches/engines.rs: llama.py MODEL PROMPT TOKENS. It reads lines, and answers each with the seconds that it took."""

import json
import sys
import time

import llama_cpp

model, prompt, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
llama = llama_cpp.Llama(model, n_ctx=1024, n_batch=512, n_threads=1, n_threads_batch=1, verbose=False)
flags = llama_cpp.llama_print_system_info().decode().split("|")
known = [it.split("=")[0].strip() for it in flags if it.strip().endswith("= 1")]
print(f"llama-cpp-python {llama_cpp.__version__}: {' '.join(known)}", flush=True)
text = [1000 + at * 37 % 40_000 for at in range(prompt)]
for _ in sys.stdin:
    llama.reset()
    start = time.perf_counter()
    llama.eval(text)
    prefill = time.perf_counter() - start
    start = time.perf_counter()
    for at in range(tokens):
        llama.eval([1000 + at])
    print(json.dumps({"prefill": prefill, "decode": time.perf_counter() - start}), flush=True)
