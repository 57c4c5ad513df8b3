"""`floatip doctor`: this machine, its peers and its network against what floatip needs. Looks, and changes nothing."""
