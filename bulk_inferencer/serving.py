"""Models for serving: SavedModels whose signature takes serialized records."""

from bulk_inferencer._models.export import export as export

__all__ = ["export"]
