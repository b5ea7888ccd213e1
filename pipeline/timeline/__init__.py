"""The timeline room: what every thread and every slot did when, written to a file that Perfetto opens."""
