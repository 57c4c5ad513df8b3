"""`floatip adopt`: puts floatip beside a keepalived that elects already, in place, and back again."""
