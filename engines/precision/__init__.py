"""Precision that is in the file: from an fp32 detector its fp16, bf16 and int8 forms, which every runtime reads."""
