"""The MongoDB backend: values that are JSON objects become documents, which can be queried and indexed."""

from asyncwb_backends.mongodb.backend import MongoDBBackend

__all__ = ["MongoDBBackend"]
