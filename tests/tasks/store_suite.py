"""The contract of every TaskStore: one suite that each store has to pass.

A test module subclasses `TaskStoreSuite` and makes its store in `new_store`. Times are passed in.
"""

from __future__ import annotations

from tests.tasks.store_claims import ClaimCases
from tests.tasks.store_expiry import ExpiryCases
from tests.tasks.store_lists import ListCases
from tests.tasks.store_records import RecordCases
from tests.tasks.store_recovery import RecoveryCases
from tests.tasks.store_subscriptions import SubscriptionCases
from tests.tasks.store_work import WorkCases


class TaskStoreSuite(
    RecordCases, ListCases, ExpiryCases, SubscriptionCases, WorkCases, ClaimCases, RecoveryCases
):
    """The behaviour of a TaskStore (docs/design/stored-tasks.md)."""
