"""Labelled data on disk: the nnU-Net raw layout, splits by patient, prepared cases."""
