"""A folder of pictures as one table of embeddings: any number of them, and interruptions too."""

from resnets.embedding.folder import Embedded, embed_folder
from resnets.embedding.table import check_table

__all__ = ["Embedded", "check_table", "embed_folder"]
