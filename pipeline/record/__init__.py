"""The record room: keeps a camera's packets with the times they came, for playing the same hour again elsewhere."""
