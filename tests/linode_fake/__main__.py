"""A pair of Linodes to try `floatip share` by hand: python -m tests.linode_fake [SECONDS UNTIL A WRITE IS SEEN]."""

import sys
import threading

from tests.linode_fake.account import pair
from tests.linode_fake.clients import TOKEN, fake

account = pair()
account.visible_after = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
with fake(account) as (_, api, metadata):
    print(f"export FLOATIP_LINODE_API={api.url} FLOATIP_METADATA_URL={metadata.url} LINODE_TOKEN={TOKEN}", flush=True)
    threading.Event().wait()
