"""Delivery of the published table to the systems that services read: databases, key-value stores, folders of files."""
