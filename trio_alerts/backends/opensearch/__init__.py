"""The store in an OpenSearch index: the only files that know opensearch-py."""
