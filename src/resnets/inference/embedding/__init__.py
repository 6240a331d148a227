"""A folder of pictures as one table of embeddings: any number of them, and interruptions too."""

from resnets.inference.embedding.embedding_table import check_table
from resnets.inference.embedding.folder_embeddings import Embedded, embed_folder

__all__ = ["Embedded", "check_table", "embed_folder"]
