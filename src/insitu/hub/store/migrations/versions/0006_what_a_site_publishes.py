"""A dataset version comes with what its steward tells of it, a site with the rules that it publishes."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXTS = ("format", "owner", "purpose", "licence")


def upgrade() -> None:
    with op.batch_alter_table("site_datasets", schema=None) as batch_op:
        for name in TEXTS:
            batch_op.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("minimum_rows", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("published_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("sites", schema=None) as batch_op:
        batch_op.add_column(sa.Column("published_policy", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("sites", schema=None) as batch_op:
        batch_op.drop_column("published_policy")
    with op.batch_alter_table("site_datasets", schema=None) as batch_op:
        batch_op.drop_column("published_at")
        batch_op.drop_column("minimum_rows")
        for name in reversed(TEXTS):
            batch_op.drop_column(name)
