"""Precision that is in the file: from an fp32 detector its fp16, bf16, int8 and fp8 forms."""
