"""What README, docs and model cards state, from training to text: run by ``make claims``."""
