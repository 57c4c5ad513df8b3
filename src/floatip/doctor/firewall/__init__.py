"""Whether this machine's firewall lets a packet through: its rules are read and followed, never guessed."""
