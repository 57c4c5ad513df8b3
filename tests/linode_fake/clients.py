"""The fake and the product beside each other: where a test gets both."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.linode_fake.account import Account, pair
from tests.linode_fake.server import Api, MetadataService

TOKEN = "t0ken-of-the-fake-account"


@contextmanager
def fake(account: Account | None = None, here: int = 1001) -> Iterator[tuple[Account, Api, MetadataService]]:
    """`here`: the Linode whose metadata service it is."""
    account = account or pair()
    api, metadata = Api(account), MetadataService(account, account.linodes[here])
    with api.running(), metadata.running():
        yield account, api, metadata
