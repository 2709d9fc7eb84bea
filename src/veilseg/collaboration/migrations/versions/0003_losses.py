"""The curve of a fit's loss"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this schema."""
    op.create_table(
        "losses",
        sa.Column("fit_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["fit_id"], ["fits.id"]),
        sa.PrimaryKeyConstraint("fit_id", "step"),
    )


def downgrade() -> None:
    """To the one before."""
    op.drop_table("losses")
