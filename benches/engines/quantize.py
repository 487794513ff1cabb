"""Quantizes a GGUF file anew, with llama.cpp: quantize.py MODEL FOLDER. What is there already stays."""

import ctypes
import pathlib
import sys

import llama_cpp

model, folder = sys.argv[1], pathlib.Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
for name, kind in [("Q4_0", llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0), ("Q8_0", llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0)]:
    made = folder / f"{name}.gguf"
    if made.exists():
        continue
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = kind, True
    part = made.with_suffix(".part")
    if llama_cpp.llama_model_quantize(model.encode(), str(part).encode(), ctypes.byref(params)) != 0:
        sys.exit(f"{name} cannot be made of {model}")
    part.rename(made)
