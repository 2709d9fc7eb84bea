"""Federated averaging with Flower, as a way to compare with: sites train, a server averages."""
