"""One model on every runtime and in every precision, side by side: what ``onpace compare`` runs."""
