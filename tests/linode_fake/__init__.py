"""A Linode account and a metadata service on loopback, for tests. Nothing of the product is imported here.

What it does comes from the official OpenAPI description, the official clients (linode-api4, linode-metadata) and logs
of people who ran them on real Linodes. The texts of refusals are made up where nobody has published them.
"""
