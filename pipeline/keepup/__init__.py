"""The keep-up room, on the side of the flow: sees every frame enter and leave and gives the verdict."""
