"""The root of the tree over a site's ledger, beside the head that was countersigned."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Empty for a head from before ledgers had a tree: the next one is taken as the first.
    op.add_column("sites", sa.Column("head_root", sa.Text(), server_default="", nullable=False))
