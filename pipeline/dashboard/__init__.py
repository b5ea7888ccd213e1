"""The live view and the control API over HTTP."""
