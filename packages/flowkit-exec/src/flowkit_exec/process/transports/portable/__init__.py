"""The portable transport: every system on which Python can start processes and connect to itself."""
