"""Which blobs a database is of, and which tokens were replaced or used"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this schema."""
    op.create_table(
        "stores",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        for name in ("used", "replaced"):
            batch_op.add_column(
                sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False)
            )


def downgrade() -> None:
    """To the one before."""
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        for name in ("replaced", "used"):
            batch_op.drop_column(name)
    op.drop_table("stores")
